"""The account of one request: what was sent and how long each stage took."""

from dataclasses import asdict, dataclass

from featurewire_client.head_pass import Seconds
from featurewire_client.transcript import Transcript


@dataclass(frozen=True)
class InferStats:
    """Bytes and milliseconds of one request, or of a whole generation.

    Attributes:
        features: feature points, all tensors, samples and steps together.
        raw_bytes: their size as float32.
        float16_bytes: their size as float16.
        sent_bytes: serialised size of every message that carried them: bitstreams, tensors that
            travel as they are, and framing.
        received_bytes: serialised size of every message of the answer.
        head_ms, encode_ms: on this side.
        network_ms: what the stages leave of the total: the wire both ways, gRPC and waiting. For so
            long at least no stage ran: exactly, where they follow one another; where they work side
            by side, as on a long prompt's spans, what the wire took beside them is not in it, down
            to 0.
        queue_ms: waiting for a worker on the server.
        decode_ms, tail_ms: on the server.
        total_ms: from the call to its answer.
        tokens: tokens generated; 0 for an inference.
        first_token_ms: from the call to the first token; 0 for an inference.
        kept_bytes: what was kept here to repeat the request on another server.
        kept_tokens: of a text, prompt and answer, the tokens that this is for; 0 for an inference.
        replays: how often it had to be repeated.
        snr_db: the quality that was asked for, the last of a request of several.
        shortfall_ms, shortfall_bytes: what was to be beyond the budget even at the lowest quality;
            0 where there is no budget, or it can be held.
        missed_ms, missed_bytes: what it took, or a text's prompt, beyond the budget in the end.
    """

    features: int
    sent_bytes: int
    received_bytes: int
    head_ms: float
    encode_ms: float
    queue_ms: float
    decode_ms: float
    tail_ms: float
    total_ms: float
    tokens: int = 0
    first_token_ms: float = 0.0
    kept_bytes: int = 0
    kept_tokens: int = 0
    replays: int = 0
    snr_db: float = 0.0
    shortfall_ms: float = 0.0
    shortfall_bytes: int = 0
    missed_ms: float = 0.0
    missed_bytes: int = 0

    @property
    def raw_bytes(self) -> int:
        return 4 * self.features

    @property
    def float16_bytes(self) -> int:
        return 2 * self.features

    @property
    def bpfp(self) -> float:
        """Bits per feature point, everything sent counted."""
        return 8 * self.sent_bytes / self.features

    @property
    def kept_bytes_a_token(self) -> float:
        """Bytes kept for each token of a text; 0 for an inference."""
        return self.kept_bytes / self.kept_tokens if self.kept_tokens else 0.0

    @property
    def network_ms(self) -> float:
        """Milliseconds, as above: a lower bound."""
        staged = self.head_ms + self.encode_ms + self.queue_ms + self.decode_ms + self.tail_ms
        return max(0.0, self.total_ms - staged)

    def as_dict(self) -> dict[str, float]:
        """Every figure by name, the derived ones included, for JSON."""
        return {
            **asdict(self),
            "raw_bytes": self.raw_bytes,
            "float16_bytes": self.float16_bytes,
            "bpfp": self.bpfp,
            "network_ms": self.network_ms,
            "kept_bytes_a_token": self.kept_bytes_a_token,
        }

    def __str__(self) -> str:
        stages = ("head", "encode", "network", "queue", "decode", "tail", "total")
        named = {"network": "network alone"}
        times = ", ".join(
            f"{named.get(stage, stage)} {getattr(self, stage + '_ms'):.1f}" for stage in stages
        )
        text = (
            f"sent {self.sent_bytes} bytes for {self.features} feature points"
            f" ({self.bpfp:.2f} bits each; float16 is {self.float16_bytes} bytes), ms: {times}"
        )
        if self.tokens:
            text += (
                f"; {self.tokens} tokens, first after {self.first_token_ms:.1f};"
                f" {self.kept_bytes_a_token:.1f} bytes a token kept to go on elsewhere"
            )
        if self.missed_ms:
            text += f"; {self.missed_ms:.0f} ms beyond the budget"
        if self.missed_bytes:
            text += f"; {self.missed_bytes} bytes beyond the budget"
        if self.replays:
            text += f"; moved {self.replays} times"
        return text


def of_request(
    request: Transcript,
    seconds: Seconds,
    total_s: float,
    snr_db: float,
    tokens: int = 0,
    first_s: float = 0.0,
) -> InferStats:
    """The account of one request, or of a generation as far as it has come."""
    channels = sum(tensor.channels for tensor in request.begin.tensors)
    return InferStats(
        features=seconds.points,
        sent_bytes=request.sent_bytes,
        received_bytes=request.received_bytes,
        head_ms=1000 * seconds.head,
        encode_ms=1000 * seconds.encode,
        queue_ms=request.server_ms("queue"),
        decode_ms=request.server_ms("decode"),
        tail_ms=request.server_ms("tail"),
        total_ms=1000 * total_s,
        tokens=tokens,
        first_token_ms=1000 * first_s,
        kept_bytes=request.kept_bytes,
        kept_tokens=seconds.points // channels if tokens else 0,
        replays=request.replays,
        snr_db=snr_db,
    )
