"""SplitClient: the head here, the tail on a server; inputs in, outputs and their account out."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from featurewire.v1 import featurewire_pb2 as pb
from featurewire.wire.coder import Coder
from featurewire.wire.metrics import WireMetrics
from featurewire_codec.quantiser import Effort
from featurewire_models import TaskError, load_head, load_processor, tensors_to_outputs
from featurewire_models.text_stream import TextStream

from featurewire_client.accounts import Accounts
from featurewire_client.budget import Budget
from featurewire_client.connection import Connection, probe
from featurewire_client.edge import Edge
from featurewire_client.errors import ConnectionFailedError, DeadlineError, RefusedError
from featurewire_client.generation import Generation, settings_of
from featurewire_client.inference import Inference
from featurewire_client.link_estimate import LinkEstimate
from featurewire_client.quality import QualityControl
from featurewire_client.rate_curve import known_rates
from featurewire_client.route import Route
from featurewire_client.sessions import Sessions
from featurewire_client.stats import InferStats
from featurewire_client.terms import Terms
from featurewire_client.turns import Turns

log = logging.getLogger("featurewire.client")

_CONNECT_S = 10.0


@dataclass(frozen=True)
class InferResult:
    """What one inference gave.

    Attributes:
        output: what the unsplit model returns (`.logits`, `.predicted_depth`, `.images` ...).
        stats: bytes, bits per feature point and milliseconds of every stage.
    """

    output: Any
    stats: InferStats


class SplitClient:
    """Runs a model split between this process and a server, one request at a time.

    Args:
        address: "host:port", or several with commas between: the first that answers and has room
            is taken, and the next one when a connection breaks or a server stops. What was under
            way goes on.
        model: bundled name, local folder or hub id, any with "@" and a revision behind it; the
            server must serve the same revision.
        split: split point; None: the server's default.
        task: what the model is used for; None: its default.
        codec: "featurewire"; "dt-ufc", the published method, for comparison; or "float16" or
            "float32" for elements as they are.
        snr_db: quality of the features, in dB; elements as they are do not use it.
        effort: "trellis" sends a few percent less than "fast" for more work on both sides;
            only "featurewire" uses it.
        profile: "server": the server's profiles, fetched once and kept; a folder: one's own;
            None: self-describing bitstreams.
        dtype, device: what the head computes in and on; "auto": a GPU where there is one.
        timeout_s: seconds that one request, or one step of a generation, may take, all attempts
            together; and that it waits for the client's request before it.
        budget: what a request may take; the quality then follows the link, from `snr_db` at first.
        metrics: counters to keep (`WireMetrics("client")`); None: none.

    Example:
        async with SplitClient("localhost:50051", model="tiny-llama3") as client:
            async for piece in client.generate("Return the", max_tokens=20):
                print(piece, end="")
    """

    def __init__(
        self,
        address: str,
        model: str,
        split: str | None = None,
        task: str | None = None,
        codec: str = "featurewire",
        snr_db: float = 25.0,
        effort: Effort = "fast",
        profile: str | Path | None = "server",
        dtype: str = "float32",
        device: str = "cpu",
        timeout_s: float = 60.0,
        budget: Budget | None = None,
        metrics: WireMetrics | None = None,
    ) -> None:
        self._sessions = Sessions(address)
        self._route = Route(self._sessions)
        self._terms = Terms(model, split, task, codec, profile)
        self._accounts = Accounts(self._terms, metrics)
        self.snr_db = snr_db
        self._effort: Effort = effort
        self._dtype = dtype
        self._device = device
        self._timeout_s = timeout_s
        self._metrics = metrics
        self._budget = budget
        self._control: QualityControl | None = None
        self._turns = Turns()
        self._loaded: Edge | None = None
        self.last_stats: InferStats | None = None
        """The account of the last request or generation; None where it failed."""
        self.finish_reason = ""
        """Why the last generation ended: "stop" (the model's end or a stop string), "length"
        (`max_tokens`) or "context" (the model holds no more)."""

    async def __aenter__(self) -> Self:
        """Connects, agrees on the session's terms and loads the head.

        Raises:
            ClientError: no server answers, or it refuses.
            ModelError: there is no such model here.
            CodecError: a profile is damaged or was learned from something else.
        """
        try:
            await self._terms.look_up()
            connection = await self._open()
            # here, so that no request's time has the loading of kernels and tables in it
            self._loaded = await asyncio.to_thread(self._load)
            self._processor: Any = None
            if self._budget is not None:
                known = known_rates(self._terms.profiles.profiles.values())
                link = self._sessions.link
                self._control = QualityControl(self._budget, self.snr_db, link, known)
                if self._budget.latency_ms is not None:
                    await self._probe(connection)
            self._turns.is_open = True
        except BaseException:
            await self.close()
            raise
        if self._metrics:
            self._metrics.sessions.inc()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._metrics:
            self._metrics.sessions.dec()
        await self.close()

    async def close(self) -> None:
        """Ends the session and frees the connection; may be called twice.

        Whatever is called later, a generation's next piece too, is a ClientError.
        """
        self._turns.is_open = False
        await self._route.close()
        if self._loaded is not None:
            self._loaded.close()

    @property
    def edge(self) -> Edge:
        """The head and the coder of this side."""
        assert self._loaded is not None, "the client is used within `async with`"
        return self._loaded

    @property
    def split(self) -> str:
        """The split point."""
        return self._terms.split

    @property
    def task(self) -> str:
        """What the model is used for."""
        return self._terms.task

    @property
    def offer(self) -> pb.Handshake:
        """What the first session of this client asks for."""
        return self._terms.offer

    @property
    def link(self) -> LinkEstimate:
        """What is known of the link."""
        return self._sessions.link

    @property
    def profiled(self) -> bool:
        """Whether the session's features are coded with a profile."""
        return bool(self._terms.profiles.digest)

    async def infer(
        self, inputs: dict[str, torch.Tensor], outputs: Sequence[str] = ()
    ) -> InferResult:
        """Runs one inference.

        A text of two spans or more (of 64 tokens, 128 from 512 tokens on, or 256 where the head
        is on a GPU) goes to a causal model span by span: head, codec, wire and tail work side by
        side, and a budget's quality is chosen for each span. The outputs are those of the unsplit
        model given the same spans with a cache, which differ from those of one pass in the last
        bits. It goes as one feature, in one pass, in a batch, with "dt-ufc", and where the inputs
        are more than `input_ids` and a number `logits_to_keep`: masks, positions, labels.

        Args:
            inputs: the keyword tensors that the unsplit model takes.
            outputs: names of the outputs to send back, such as "loss"; none: all.

        Raises:
            ClientError: the server is gone, refuses, or does not answer in time; the client is
                closed, or a generation of it is not taken to its end.
            ModelError: the head cannot run on the inputs.
            CodecError: the features cannot be coded.
        """
        async with self._turns.take("an inference", self._timeout_s):
            self.last_stats = None
            inference = Inference(self.edge, self._route, self.snr_db, self._control)
            async with self._deadline():
                tensors, stats = await inference.run(inputs, outputs)
            self.last_stats = stats = self._accounts.record(stats, self._control)
        return InferResult(tensors_to_outputs(tensors), stats)

    async def generate(
        self,
        prompt: str,
        max_tokens: int = 64,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 0,
        stop: str | Sequence[str] = (),
    ) -> AsyncGenerator[str, None]:
        """Continues a text, piece by piece, as the tokens come.

        Args:
            prompt: the text to continue.
            max_tokens: tokens to generate at most; the model's context bounds them too.
            temperature: 0, or next to it, takes the likeliest token each time.
            top_k: draw among so many of the likeliest; 0: all.
            top_p: draw among the likeliest that reach this probability together; 1: all.
            seed: of the noise, 0 to 2^63 - 1; the same seed gives the same text.
            stop: the text ends before this string, or the first of several.

        Raises:
            ModelError: the prompt is empty or longer than the context, or this is no language
                model.
            SettingError: `max_tokens`, `top_k` or `seed` is negative or too large, or `stop` is no
                text that UTF-8 holds.
            ClientError, CodecError: as `infer`.
        """
        self._turns.check()
        terms = self._terms
        if terms.task != "generation":
            tasks = ", ".join(terms.info.tasks)
            raise TaskError(f"{terms.info.name} generates no text; its tasks are {tasks}.")
        settings = settings_of(max_tokens, temperature, top_k, top_p, seed, stop)
        async with self._turns.take("a generation", self._timeout_s):
            if self._processor is None:
                self._processor = await asyncio.to_thread(
                    load_processor, terms.name, terms.task, terms.info.revision
                )
            self.finish_reason, self.last_stats = "length", None
            if max_tokens < 1:
                return
            text = TextStream(self._processor, settings.stop)
            generation = Generation(self.edge, self._route, text, self.snr_db, self._control)
            ids = self._processor.inputs(prompt)["input_ids"]
            try:
                async for piece in generation.pieces(ids, settings, self._deadline):
                    yield piece
            finally:
                self.finish_reason = generation.finish_reason
                if not generation.finish_reason:  # left early: the server frees its cache
                    await self._route.abandon()
                if (stats := generation.stats()) is not None:
                    self.last_stats = self._accounts.record(stats, self._control)

    @contextlib.asynccontextmanager
    async def _deadline(self) -> AsyncIterator[None]:
        """Bounds what is within it; a request that fails in it leaves no session amid its answer.

        Raises:
            DeadlineError: it took too long.
            ClientError: the client is closed.
        """
        self._turns.check()
        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except BaseException as error:
            await self._route.abandon()
            if isinstance(error, TimeoutError):
                raise DeadlineError(self._sessions.addresses.overdue(self._timeout_s)) from error
            if isinstance(error, Exception):
                self._turns.check()  # what a close in the middle of it breaks tells nobody why
            raise

    def _load(self) -> Edge:
        terms = self._terms
        coder = Coder(terms.codec, terms.profiles.profiles, self._effort)
        # the very revision that was offered, should the hub's move on meanwhile
        placed = {"dtype": self._dtype, "device": self._device, "revision": terms.info.revision}
        return Edge(load_head(terms.name, terms.split, terms.task, **placed), coder)

    async def _open(self) -> Connection:
        """Opens the first session, at the first address whose server takes it."""
        try:
            async with asyncio.timeout(self._timeout_s) as limit:

                def came(took_s: float) -> None:
                    # a profile's pages may take minutes over a slow link: those that come
                    limit.reschedule((limit.when() or 0.0) + took_s)

                async def agree(connection: Connection) -> pb.Handshake:
                    return await self._terms.agree(connection, came, share_s)

                share_s = self._timeout_s / len(self._sessions.addresses.every)
                return await self._sessions.open(min(share_s, _CONNECT_S), agree)
        except TimeoutError as error:
            raise DeadlineError(
                self._sessions.addresses.overdue(self._timeout_s, "handshake")
            ) from error
        except RefusedError as error:
            if error.reason == "REVISION_MISMATCH":
                await asyncio.to_thread(self._terms.explain, error)
            raise

    async def _probe(self, connection: Connection) -> None:
        """Finds out about the link before the first request, whose chunks tell it as well."""
        try:
            self._sessions.link.know(*await probe(connection, self._timeout_s))
        except ConnectionFailedError as error:  # the first request looks for another server
            log.info("the link is not known yet: %s", error)
