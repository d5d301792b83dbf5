"""A run: a task, a client and data in; a row for the unsplit model and for each quality out."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any

from featurewire_models import InputError, Model, outputs_to_tensors, tensors_to_outputs

from featurewire_client.client import SplitClient
from featurewire_client.evaluation.metrics import Metric
from featurewire_client.evaluation.tasks import Inputs, Sample, Task
from featurewire_client.stats import InferStats

_MEANS = ("features", "sent_bytes", "received_bytes", "float16_bytes")
STAGES = ("head", "encode", "network", "queue", "decode", "tail", "total")


@dataclass
class Row:
    """What one way of running the model gave.

    Attributes:
        snr_db: the features' quality; None for the unsplit model and features as they are.
        metric: the task's figures.
        accounts: one a request; none of the unsplit model.
        total_ms: one a request.
    """

    snr_db: float | None
    metric: Metric
    accounts: list[InferStats] = field(default_factory=list)
    total_ms: list[float] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON and the table: metrics; the mean bytes and median milliseconds of a request."""
        figures: dict[str, Any] = {"snr_db": self.snr_db, "metrics": self.metric.values()}
        if self.accounts:
            for name in _MEANS:
                figures[name] = fmean(getattr(each, name) for each in self.accounts)
            figures["bpfp"] = 8 * figures["sent_bytes"] / figures["features"]
            for stage in STAGES[:-1]:
                figures[f"{stage}_ms"] = median(getattr(a, f"{stage}_ms") for a in self.accounts)
        return figures | {"total_ms": median(self.total_ms)}


@dataclass(frozen=True)
class Evaluation:
    """Rows of one data set: `unsplit`, where it was run, and `split`, one for each quality."""

    samples: int
    requests: int
    unsplit: Row | None
    split: list[Row]


def spread(records: Sequence[Any], limit: int | None) -> list[Any]:
    """Up to `limit` of the records, evenly from all of them: classes lie one after the other."""
    count = len(records) if limit is None else min(limit, len(records))
    return [records[place * len(records) // count] for place in range(count)]


def make_sample(task: Task, record: Any) -> Sample:
    """The record's sample. Raises InputError that names the record."""
    try:
        return task.sample(record)
    except InputError as error:
        if record.name in str(error):
            raise
        raise InputError(f"{record.name}: {error}") from error


async def evaluate(
    client: SplitClient,
    task: Task,
    records: Sequence[Any],
    qualities: Sequence[float | None],
    unsplit: Model | None,
    begin: Callable[[str], None],
) -> Evaluation:
    """Runs every record unsplit and, through the service, at every quality.

    Args:
        client: within its `async with`; its `snr_db` is set to each quality in turn.
        records: of `task.read`.
        qualities: SNRs in dB; a single None for a codec that has none.
        unsplit: the whole model, to run here; None: not to.
        begin: called before each record with its name.

    Raises:
        InputError: a record that the model cannot take, by its name; no unsplit model, for a task
            whose truth is its answer.
        ClientError, ModelError, CodecError: as `SplitClient.infer`.
    """
    if unsplit is None and task.relative:
        raise InputError("This task is measured against the unsplit model, so it has to be run.")
    reference = Row(None, task.metric()) if unsplit is not None else None
    rows = [Row(quality, task.metric()) for quality in qualities]
    requests = 0
    for record in records:
        begin(Path(record.name).name)
        sample = await asyncio.to_thread(make_sample, task, record)
        requests += len(sample.requests)
        truth = sample.truth
        if unsplit is not None and reference is not None:
            answer = await asyncio.to_thread(_run_unsplit, unsplit, sample, reference)
            truth = answer if task.relative else truth
            reference.metric.add(answer, truth)
        for row in rows:
            row.metric.add(await _run_split(client, task, sample, row), truth)
    return Evaluation(len(records), requests, reference, rows)


async def _run_split(client: SplitClient, task: Task, sample: Sample, row: Row) -> Any:
    if row.snr_db is not None:
        client.snr_db = row.snr_db
    outputs = []
    for inputs in sample.requests:
        result = await client.infer(inputs, task.outputs)
        outputs.append(result.output)
        row.accounts.append(result.stats)
        row.total_ms.append(result.stats.total_ms)
    return sample.answer(outputs)


def _run_unsplit(model: Model, sample: Sample, row: Row) -> Any:
    def run(inputs: Inputs) -> Any:
        started = time.perf_counter()
        outputs = outputs_to_tensors(model(inputs))
        # a GPU is done once its results are here
        found = tensors_to_outputs({name: each.cpu() for name, each in outputs.items()})
        row.total_ms.append(1000 * (time.perf_counter() - started))
        return found

    return sample.answer([run(inputs) for inputs in sample.requests])
