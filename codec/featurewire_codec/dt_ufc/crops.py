"""Training data: feature files in, random crops of their index planes out.

A source is one array of features with centres of its own. Small pictures are laid side by side
until a crop fits into them. One sample in eight, the last ones, is held out for validation.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import FeatureError
from ..files import Samples, read_samples
from .kmeans import CENTRES, fit_centres, to_indices
from .plane import PADDING, Plane

Pictures = tuple[NDArray[np.uint8], ...]

CALIBRATION_SAMPLES = 10  # as in the paper: ten files a model
HELD_OUT_PART = 8
HELD_OUT_CROPS = 6
PADDED_PART = 0.25
# The values outside these quantiles are cut off where a feature on tokens is normalised linearly.
TRUNCATION = (0.0005, 0.9995)


@dataclass(frozen=True, eq=False)
class Source:
    """One source: its centres float32[256], and its pictures to train on and to validate with."""

    name: str
    centres: NDArray[np.float32]
    training: Pictures
    held_out: NDArray[np.uint8]  # [crops, crop, crop]

    @property
    def pixels(self) -> int:
        """Of all the pictures to train on."""
        return sum(picture.size for picture in self.training)


def read_sources(paths: Sequence[Path], crop: int, linear: bool) -> list[Source]:
    """Read feature files, or the files of folders.

    linear: centres at even distances instead of k-means, as task-specific codecs normalise.

    Raises:
        FeatureError: a file is no feature file, or has fewer than 16 samples.
    """
    files = [
        file for path in paths for file in (sorted(path.glob("*.npy")) if path.is_dir() else [path])
    ]
    return [_source(samples, crop, linear) for file in files for samples in read_samples(file)]


def random_crops(
    sources: Sequence[Source], crop: int, batch: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Draw uint8[batch, crop, crop], every source being equally likely.

    One in four ends in padding, at random places, as planes do: the network learns what it costs.
    """
    drawn = []
    for _ in range(batch):
        pictures = sources[int(rng.integers(len(sources)))].training
        picture = pictures[int(rng.integers(len(pictures)))]
        top, left = (rng.integers(side - crop + 1) for side in picture.shape)
        cut = picture[top : top + crop, left : left + crop]
        if rng.random() < PADDED_PART:
            height, width = np.minimum(rng.integers(1, 2 * crop, 2), crop)
            margins = ((0, crop - height), (0, crop - width))
            cut = np.pad(cut[:height, :width], margins, constant_values=PADDING)
        drawn.append(cut)
    return np.stack(drawn)


def linear_centres(samples: Samples) -> NDArray[np.float32]:
    """Return 256 values at even distances: over the whole range on grids, else truncated."""
    values = np.concatenate([sample.reshape(-1) for sample in samples.arrays])
    low, high = np.quantile(values, (0.0, 1.0) if samples.grid else TRUNCATION)
    return np.linspace(low, high, CENTRES, dtype=np.float32)


def _source(samples: Samples, crop: int, linear: bool) -> Source:
    arrays = samples.arrays
    if len(arrays) < 2 * HELD_OUT_PART:
        raise FeatureError(f"{samples.name}: {len(arrays)} samples, at least 16 are needed")
    kept = arrays[: -(len(arrays) // HELD_OUT_PART)]
    some = kept[:: -(-len(kept) // CALIBRATION_SAMPLES)]
    centres = linear_centres(samples) if linear else fit_centres(np.concatenate(some))
    plane = Plane.of_array(arrays[0], samples.grid)

    def pictures(group: Sequence[NDArray[np.float32]]) -> Pictures:
        height, width = plane.shape
        cut = [
            plane.pack(to_indices(array, centres, "nearest"))[:height, :width] for array in group
        ]
        return tuple(_mosaics(cut, crop))

    held_out = pictures(arrays[len(kept) :])
    some_crops = [_middle(held_out[n % len(held_out)], crop) for n in range(HELD_OUT_CROPS)]
    return Source(samples.name, centres, pictures(kept), np.stack(some_crops))


def _mosaics(pictures: Sequence[NDArray[np.uint8]], crop: int) -> Iterator[NDArray[np.uint8]]:
    """Lay pictures side by side until both sides reach the crop's; the last ones may repeat."""
    height, width = pictures[0].shape
    down, across = -(-crop // height), -(-crop // width)
    for start in range(0, len(pictures), down * across):
        chosen = [pictures[(start + n) % len(pictures)] for n in range(down * across)]
        rows = [np.hstack(chosen[n : n + across]) for n in range(0, len(chosen), across)]
        yield np.vstack(rows)


def _middle(picture: NDArray[np.uint8], crop: int) -> NDArray[np.uint8]:
    top, left = ((side - crop) // 2 for side in picture.shape)
    return picture[top : top + crop, left : left + crop]
