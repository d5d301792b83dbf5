"""A person's side: raw text or images become a head's inputs, a tail's outputs become an answer.

    inputs(raw, **options) -> the head's inputs     result(outputs) -> the answer

One class a kind of input. Text and images come one at a time or as a list; of one the answer is
returned by itself, of several a list of answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn.functional import interpolate
from transformers import AutoImageProcessor, AutoTokenizer

from featurewire_models.errors import ArchitectureError, InputError
from featurewire_models.info import ModelInfo, describe, read_config
from featurewire_models.sd3_parts import has_t5

Item = TypeVar("Item")
Inputs = dict[str, Tensor]


@dataclass(frozen=True)
class TextProcessor:
    """Text for language models and encoders."""

    info: ModelInfo
    task: str
    tokenizer: Any
    end_ids: frozenset[int]

    def inputs(self, raw: str | Sequence[str]) -> Inputs:
        """``input_ids`` int64 ``[batch, tokens]``, and ``attention_mask`` where texts are padded.

        Raises InputError for an empty text or one over the model's context.
        """
        texts = _several(raw)
        encoded = [self.tokenizer(_checked_text(text))["input_ids"] for text in texts]
        longest = max(map(len, encoded))
        if self.info.context is not None and longest > self.info.context:
            raise InputError(
                f"The text has {longest} tokens; {self.info.name}'s context is {self.info.context}."
            )
        if all(len(ids) == longest for ids in encoded):
            return {"input_ids": torch.tensor(encoded)}
        # A language model continues each text at its end, so the padding comes before it.
        left = self.task == "generation"
        ids = torch.full((len(encoded), longest), self.tokenizer.pad_token_id or 0)
        mask = torch.zeros_like(ids)
        for row, tokens in enumerate(encoded):
            place = slice(longest - len(tokens), None) if left else slice(len(tokens))
            ids[row, place], mask[row, place] = torch.tensor(tokens), 1
        return {"input_ids": ids, "attention_mask": mask}

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, without the special ones."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def result(self, outputs: Any) -> Any:
        """The likeliest next piece of text, the sentence's embedding, or its token states."""
        if self.task == "generation":
            return _one_or_all([self.decode([int(i)]) for i in outputs.logits[:, -1].argmax(-1)])
        name = "sentence_embedding" if self.task == "embedding" else "last_hidden_state"
        return _one_or_all([row.float().cpu().numpy() for row in getattr(outputs, name)])


@dataclass(frozen=True)
class ImageProcessor:
    """Images for vision models."""

    info: ModelInfo
    task: str
    processor: Any
    labels: dict[int, str]

    def inputs(self, raw: Image.Image | str | Path | Sequence[Image.Image | str | Path]) -> Inputs:
        """``pixel_values`` float32 ``[batch, 3, height, width]`` of images or their files.

        Raises InputError for what is no image.
        """
        images = [_image(each) for each in _several(raw)]
        return {"pixel_values": self.processor(images, return_tensors="pt")["pixel_values"]}

    def result(self, outputs: Any, size: tuple[int, int] | None = None) -> Any:
        """A label with its score; a class map int64 or a depth map float32 ``[rows, cols]``; or

        patch features ``[tokens, hidden]``. ``size`` (height, width) stretches the two maps.
        """
        if self.task == "classification":
            best = outputs.logits.float().softmax(-1).max(-1)
            pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
            return _one_or_all([{"label": self.labels[i], "score": score} for i, score in pairs])
        if self.task == "segmentation":
            maps = _stretched(outputs.logits, size).argmax(1)
        elif self.task == "depth":
            maps = _stretched(outputs.predicted_depth[:, None], size)[:, 0]
        else:
            maps = outputs.last_hidden_state.float()
        return _one_or_all([each.cpu().numpy() for each in maps])


@dataclass(frozen=True)
class PromptProcessor:
    """Prompts for Stable Diffusion 3; ``tokenizers`` with the length that each is padded to."""

    info: ModelInfo
    task: str
    tokenizers: tuple[tuple[Any, int], ...]

    def inputs(
        self,
        raw: str | Sequence[str],
        seed: int = 0,
        steps: int = 28,
        guidance: float = 7.0,
        negative: str = "",
    ) -> Inputs:
        """A head's inputs; ``seed`` is the first image's, the next ones count on from it.

        Raises InputError for an empty prompt or one over the model's context.
        """
        prompts = _several(raw)
        inputs = {
            "seed": torch.arange(seed, seed + len(prompts)),
            "num_inference_steps": torch.tensor(steps),
            "guidance_scale": torch.tensor(guidance, dtype=torch.float64),
        }
        for number, (tokenizer, length) in enumerate(self.tokenizers, start=1):
            name = "input_ids" if number == 1 else f"input_ids_{number}"
            texts = [_checked_text(prompt) for prompt in prompts]
            inputs[name] = self._tokens(tokenizer, length, texts)
            if guidance > 1:
                negatives = [negative] * len(prompts)
                inputs[f"negative_{name}"] = self._tokens(tokenizer, length, negatives)
        return inputs

    def result(self, outputs: Any) -> Any:
        """A PIL image."""
        return _one_or_all([Image.fromarray(each.cpu().numpy()) for each in outputs.images])

    def _tokens(self, tokenizer: Any, length: int, texts: list[str]) -> Tensor:
        longest = max(len(tokenizer(text)["input_ids"]) for text in texts)
        if longest > length:
            raise InputError(
                f"The prompt has {longest} tokens; {self.info.name}'s text encoder takes {length}."
            )
        padded = tokenizer(texts, padding="max_length", max_length=length, return_tensors="pt")
        ids: Tensor = padded["input_ids"]
        return ids


Processor = TextProcessor | ImageProcessor | PromptProcessor


def load_processor(
    model: str | Path, task: str | None = None, revision: str | None = None
) -> Processor:
    """The processor of a model's task. Raises a ModelError; ``model`` is as for load_head."""
    info = describe(model, revision)
    task = info.check_task(task)
    folder = info.folders[task]
    if info.family == "sd3":
        lengths = {"tokenizer": info.context or 77, "tokenizer_2": info.context or 77}
        if has_t5(info):
            lengths["tokenizer_3"] = 256
        found = [(_read(AutoTokenizer, folder / name), size) for name, size in lengths.items()]
        return PromptProcessor(info, task, tuple(found))
    if info.family == "dinov2":
        source = folder if (folder / "preprocessor_config.json").is_file() else info.path
        labels = {int(i): str(label) for i, label in read_config(folder).id2label.items()}
        return ImageProcessor(info, task, _read(AutoImageProcessor, source), labels)
    end = read_config(folder).eos_token_id
    ends = frozenset(end if isinstance(end, list) else [] if end is None else [end])
    return TextProcessor(info, task, _read(AutoTokenizer, folder), ends)


def _read(kind: Any, folder: Path) -> Any:
    try:
        return kind.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ArchitectureError(
            f"{folder.name} holds no tokenizer or image processor that can be read ({reason})."
        ) from error


def _several(raw: Any) -> list[Any]:
    items = list(raw) if isinstance(raw, list | tuple) else [raw]
    if not items:
        raise InputError("The inputs are empty; at least one text or image is needed.")
    return items


def _one_or_all(answers: list[Item]) -> Item | list[Item]:
    return answers[0] if len(answers) == 1 else answers


def _checked_text(text: str) -> str:
    if not isinstance(text, str) or not text.strip():
        raise InputError("The prompt is empty; it must hold some text.")
    return text


def _image(raw: Image.Image | str | Path) -> Image.Image:
    if isinstance(raw, Image.Image):
        return raw.convert("RGB")
    if not isinstance(raw, str | Path):
        raise InputError(f"An image or its file is needed, not a {type(raw).__name__}.")
    try:
        with Image.open(raw) as opened:
            return opened.convert("RGB")
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise InputError(f"{raw} is no image that can be read.") from error


def _stretched(maps: Tensor, size: tuple[int, int] | None) -> Tensor:
    """``[batch, channels, rows, cols]`` at that size, in float32."""
    if size is None:
        return maps.float()
    return interpolate(maps.float(), size=size, mode="bilinear", align_corners=False)
