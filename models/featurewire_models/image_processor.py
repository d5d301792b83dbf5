"""Images go in, pixel values come out; logits, depths or features become an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn.functional import interpolate

from featurewire_models.batch import one_or_all, several
from featurewire_models.errors import InputError
from featurewire_models.info import ModelInfo

ImageLike = Image.Image | str | Path
# what Pillow raises of files that are no image, damaged or too large
UNREADABLE = UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError


@dataclass(frozen=True)
class ImageProcessor:
    """Images for vision models."""

    info: ModelInfo
    task: str
    processor: Any
    labels: dict[int, str]

    def inputs(
        self, raw: Image.Image | str | Path | Sequence[Image.Image | str | Path]
    ) -> dict[str, Tensor]:
        """``pixel_values`` float32 ``[batch, 3, height, width]`` of images or their files.

        Raises InputError for what is no image.
        """
        images = [_image(each) for each in several(raw)]
        return {"pixel_values": self.processor(images, return_tensors="pt")["pixel_values"]}

    def result(self, outputs: Any, size: tuple[int, int] | None = None) -> Any:
        """A label with its score; a class map int64 or a depth map float32 ``[rows, cols]``; or

        patch features ``[tokens, hidden]``. ``size`` (height, width) stretches the two maps.
        """
        if self.task == "classification":
            best = outputs.logits.float().softmax(-1).max(-1)
            pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
            return one_or_all([{"label": self.labels[i], "score": score} for i, score in pairs])
        if self.task == "segmentation":
            maps = _stretched(outputs.logits, size).argmax(1)
        elif self.task == "depth":
            maps = _stretched(outputs.predicted_depth[:, None], size)[:, 0]
        else:
            maps = outputs.last_hidden_state.float()
        return one_or_all([each.cpu().numpy() for each in maps])


def _image(raw: ImageLike) -> Image.Image:
    if isinstance(raw, Image.Image):
        return raw.convert("RGB")
    if not isinstance(raw, str | Path):
        raise InputError(f"An image or its file is needed, not a {type(raw).__name__}.")
    try:
        with Image.open(raw) as opened:
            return opened.convert("RGB")
    except UNREADABLE as error:
        raise InputError(f"{raw} is no image that can be read.") from error


def _stretched(maps: Tensor, size: tuple[int, int] | None) -> Tensor:
    """``[batch, channels, rows, cols]`` at that size, in float32."""
    if size is None:
        return maps.float()
    return interpolate(maps.float(), size=size, mode="bilinear", align_corners=False)
