"""A person's side: raw text or images become a head's inputs, a tail's outputs become an answer.

    inputs(raw, **options) -> the head's inputs     result(outputs) -> the answer

One class a kind of input. Text and images come one at a time or as a list; of one the answer is
returned by itself, of several a list of answers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoImageProcessor, AutoTokenizer

from featurewire_models.errors import ArchitectureError, one_line
from featurewire_models.image_processor import ImageProcessor
from featurewire_models.info import describe, has_t5, read_config
from featurewire_models.prompt_processor import PromptProcessor
from featurewire_models.text_processor import TextProcessor

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
    if info.family in ("dinov2", "vit"):
        source = folder if (folder / "preprocessor_config.json").is_file() else info.path
        config = read_config(folder)
        labels = {int(i): str(label) for i, label in config.id2label.items()}
        patch = (getattr(config, "backbone_config", None) or config).patch_size
        return ImageProcessor(info, task, _read(AutoImageProcessor, source), labels, patch)
    end = read_config(folder).eos_token_id
    ends = frozenset(end if isinstance(end, list) else [] if end is None else [end])
    return TextProcessor(info, task, _read(AutoTokenizer, folder), ends)


def _read(kind: Any, folder: Path) -> Any:
    try:
        return kind.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ArchitectureError(
            f"{folder.name} holds no tokenizer or image processor that can be read "
            f"({one_line(error)})."
        ) from error
