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

MAPS = ("segmentation", "depth")
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
    patch: int = 1

    def inputs(
        self, raw: Image.Image | str | Path | Sequence[Image.Image | str | Path]
    ) -> dict[str, Tensor]:
        """``pixel_values`` float32 ``[batch, 3, height, width]`` of images or their files.

        A map is of every pixel: where the processor would cut an image's middle out, the whole of
        it is brought to that size instead, and to whole patches (of ``patch`` pixels). Raises
        InputError for what is no image.
        """
        images = [_image(each) for each in several(raw)]
        options: dict[str, Any] = {}
        if self.task in MAPS and getattr(self.processor, "do_center_crop", None):
            crop = self.processor.crop_size
            size = {side: crop[side] for side in ("height", "width")}
            options = {"do_center_crop": False, "do_resize": True, "size": size}
        pixels = self.processor(images, return_tensors="pt", **options)["pixel_values"]
        whole = [-(-side // self.patch) * self.patch for side in pixels.shape[-2:]]
        if self.task in MAPS and list(pixels.shape[-2:]) != whole:
            pixels = _stretched(pixels, whole)
        return {"pixel_values": pixels}

    def result(self, outputs: Any, size: tuple[int, int] | None = None) -> Any:
        """A label with its score; a class map int64 or a depth map float32 ``[rows, cols]``; or

        patch features ``[tokens, hidden]``. ``size`` (height, width), the image's, stretches the
        two maps.
        """
        if self.task == "classification":
            best = outputs.logits.float().softmax(-1).max(-1)
            pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
            return one_or_all([{"label": self.labels[i], "score": score} for i, score in pairs])
        if self.task == "segmentation":
            maps = self._of_image(outputs.logits, size).argmax(1)
        elif self.task == "depth":
            maps = self._of_image(outputs.predicted_depth[:, None], size)[:, 0]
        else:
            maps = outputs.last_hidden_state.float()
        return one_or_all([each.cpu().numpy() for each in maps])

    def _of_image(self, maps: Tensor, size: tuple[int, int] | None) -> Tensor:
        """``[batch, channels, rows, cols]`` at that size, in float32, without what was padded."""
        if size is None:
            return maps.float()
        multiple, held = 1, self.processor
        if getattr(held, "do_pad", None) and not held.do_resize:  # DPT's: to whole patches
            multiple = getattr(held, "size_divisor", None) or 1
        padded = [-(-side // multiple) * multiple for side in size]
        whole = _stretched(maps.float(), padded)
        top, left = ((long - side) // 2 for long, side in zip(padded, size, strict=True))
        return whole[..., top : top + size[0], left : left + size[1]]


def _stretched(maps: Tensor, size: Sequence[int]) -> Tensor:
    return interpolate(maps, size=list(size), mode="bilinear", align_corners=False)


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
