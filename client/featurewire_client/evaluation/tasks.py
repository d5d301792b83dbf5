"""What can be evaluated: a folder in, records out; a record in, requests and its truth out.

One class a task, made of a processor (`load_processor`), with `read(data)` for the records,
`sample(record)` for what to run, and `metric()` for what the answers are worth.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from featurewire_models import InputError
from numpy.typing import NDArray

from featurewire_client.evaluation import images, metrics
from featurewire_client.evaluation.prompts import Prompt, read_prompts
from featurewire_client.evaluation.questions import Question, read_questions
from featurewire_client.raw_input import read_image

Inputs = dict[str, torch.Tensor]
_UNLABELLED = -100  # of a token whose loss is not counted, as torch's cross-entropy has it


@dataclass(frozen=True)
class Sample:
    """What to run for one record.

    Attributes:
        requests: a head's inputs, one after the other.
        answer: from the outputs of all of them to what the metric compares.
        truth: what to compare with; None: the unsplit model's answer.
    """

    requests: Sequence[Inputs]
    answer: Callable[[Sequence[Any]], Any]
    truth: Any = None


@dataclass(frozen=True)
class Settings:
    """Of text to image: steps, guidance, and the first seed of prompts without one."""

    steps: int = 20
    guidance: float = 4.0
    seed: int = 0


@dataclass(frozen=True)
class Task:
    """What every task has: `outputs` are fetched, () for all; `relative`: truth is unsplit."""

    processor: Any
    settings: Settings
    outputs: ClassVar[tuple[str, ...]] = ()
    relative: ClassVar[bool] = False

    def metric(self) -> metrics.Metric:
        """Running sums, empty."""
        raise NotImplementedError

    def read(self, data: Path) -> Sequence[Any]:
        """The records of a folder or file. Raises InputError."""
        raise NotImplementedError

    def sample(self, record: Any) -> Sample:
        """What to run for a record. Raises InputError."""
        raise NotImplementedError


class Reasoning(Task):
    """Questions with choices: the log-likelihood of each choice behind its question.

    As lm-evaluation-harness has ARC: the prompt is "Question: ...\\nAnswer:", a choice follows
    after a space, and its tokens are those of both together beyond as many as the prompt alone has.
    Each choice is a request of its own, and only its loss comes back.
    """

    outputs = ("loss",)

    def metric(self) -> metrics.Metric:
        return metrics.ChoiceMetric()

    def read(self, data: Path) -> Sequence[Question]:
        return read_questions(data)

    def sample(self, record: Question) -> Sample:
        prompt = f"Question: {record.text}\nAnswer:"
        given = self.processor.inputs(prompt)["input_ids"].shape[1]
        requests, counts = [], []
        for choice in record.choices:
            ids = self.processor.inputs(f"{prompt} {choice}")["input_ids"]
            labels = ids.to(torch.int32)  # half the bytes, as they travel as they are
            labels[:, :given] = _UNLABELLED
            requests.append({"input_ids": ids, "labels": labels})
            counts.append(ids.shape[1] - given)
        if min(counts) < 1:
            raise InputError(
                f"The choice {record.choices[counts.index(min(counts))]!r} has no token."
            )

        def answer(outputs: Sequence[Any]) -> NDArray[np.float64]:
            """The sum of the log-probabilities of each choice's tokens, in nats."""
            pairs = zip(outputs, counts, strict=True)
            return np.array([-float(output.loss) * count for output, count in pairs])

        return Sample(requests, answer, (record.answer, [len(each) for each in record.choices]))


class Classification(Task):
    """Images in a folder for each class."""

    def metric(self) -> metrics.Metric:
        return metrics.ClassMetric()

    def read(self, data: Path) -> Sequence[images.Labelled]:
        return images.read_classes(data, self.processor.labels)

    def sample(self, record: images.Labelled) -> Sample:
        inputs = self.processor.inputs(read_image(record.image))

        def answer(outputs: Sequence[Any]) -> NDArray[np.float32]:
            (output,) = outputs
            scores: NDArray[np.float32] = output.logits[0].float().cpu().numpy()
            return scores

        return Sample([inputs], answer, record.label)


class Segmentation(Task):
    """Images with a class for each pixel; the model's classes are brought to the image's size."""

    def metric(self) -> metrics.Metric:
        return metrics.SegmentationMetric()

    def read(self, data: Path) -> Sequence[images.Paired]:
        return images.read_pairs(data, "annotations", (".png",))

    def sample(self, record: images.Paired) -> Sample:
        image, truth = read_image(record.image), self._truth(record.truth)
        images.check_size(record, image, truth)
        inputs = self.processor.inputs(image)

        def answer(outputs: Sequence[Any]) -> NDArray[Any]:
            (output,) = outputs
            found: NDArray[Any] = self.processor.result(output, size=truth.shape)
            return found

        return Sample([inputs], answer, truth)

    def _truth(self, path: Path) -> NDArray[Any]:
        reduced = bool(getattr(self.processor.processor, "do_reduce_labels", None))
        return images.read_mask(path, self.processor.labels, reduced)


class Depth(Segmentation):
    """Images with a distance for each pixel, in metres; the map is brought to the image's size."""

    def metric(self) -> metrics.Metric:
        return metrics.DepthMetric()

    def read(self, data: Path) -> Sequence[images.Paired]:
        return images.read_pairs(data, "depth", (".npy", ".png"))

    def _truth(self, path: Path) -> NDArray[Any]:
        return images.read_depth(path)


class TextToImage(Task):
    """Prompts: the unsplit model's image of the same noise is the truth."""

    relative = True

    def metric(self) -> metrics.Metric:
        return metrics.ImageMetric()

    def read(self, data: Path) -> Sequence[Prompt]:
        return read_prompts(data, self.settings.seed)

    def sample(self, record: Prompt) -> Sample:
        inputs = self.processor.inputs(
            record.text,
            seed=record.seed,
            steps=self.settings.steps,
            guidance=self.settings.guidance,
            negative=record.negative,
        )
        return Sample([inputs], self._answer)

    def _answer(self, outputs: Sequence[Any]) -> NDArray[np.uint8]:
        (output,) = outputs
        return np.asarray(self.processor.result(output))


class Embedding(TextToImage):
    """Sentences: the unsplit model's embedding is the truth."""

    def metric(self) -> metrics.Metric:
        return metrics.EmbeddingMetric()

    def sample(self, record: Prompt) -> Sample:
        return Sample([self.processor.inputs(record.text)], self._answer)


_TASKS: dict[str, tuple[str, type[Task]]] = {
    "reasoning": ("generation", Reasoning),
    "classification": ("classification", Classification),
    "segmentation": ("segmentation", Segmentation),
    "depth": ("depth", Depth),
    "text-to-image": ("text-to-image", TextToImage),
    "embedding": ("embedding", Embedding),
}


def model_task(task: str | None) -> str | None:
    """The model's task that a task is evaluated by: generation for reasoning, else itself."""
    return _TASKS[task][0] if task in _TASKS else task


def make_task(chosen: str, processor: Any, settings: Settings) -> tuple[str, Task]:
    """What evaluates a model's task, with its name.

    Raises:
        InputError: nothing does.
    """
    for name, (of_model, kind) in _TASKS.items():
        if of_model == chosen:
            return name, kind(processor, settings)
    raise InputError(f"The task {chosen} has no metric; {', '.join(_TASKS)} have one.")
