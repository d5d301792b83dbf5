"""Real handwritten digits in, composed 64x64 colour scenes with their ground truth out.

The digits are the 1,797 8x8 images of scikit-learn's ``load_digits`` (the UCI optical recognition
test set). Every sixth of them, by index, is held out before anything is composed.

A scene is seen by a pinhole camera: a digit `size` pixels large stands at distance ``45 / size``,
the textured background plane at ``BACKGROUND_DEPTH``. So nearer digits are larger, have the
*smaller* depth and lie in front.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

IMAGE_SIZE = 64
BACKGROUND_DEPTH = 3.0
FOCAL_LENGTH = 45.0  # pixels a digit of height 1 takes at distance 1
HELD_OUT_EVERY = 6
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
COLOURS = {
    "red": (208, 40, 40),
    "yellow": (235, 205, 50),
    "green": (40, 150, 65),
    "blue": (45, 80, 205),
    "white": (240, 240, 240),
    "black": (22, 22, 22),
}

Kind = Literal["single", "crowded", "captioned"]
Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Point = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Digits:
    """Handwritten digits: `images` [n, 8, 8] with ink in 0..1, `labels` [n] in 0..9."""

    images: Floats
    labels: npt.NDArray[np.int64]

    def draw(self, rng: np.random.Generator) -> tuple[Floats, int]:
        """One digit, every class equally likely."""
        label = int(rng.integers(len(NAMES)))
        index = int(rng.choice(np.flatnonzero(self.labels == label)))
        return self.images[index], label


@dataclass(frozen=True)
class Scene:
    """One image and what is true of it.

    `image` uint8 [64, 64, 3]; `label` the digit (0..9) that is nearest; `mask` uint8 [64, 64],
    0 background and 1 + digit elsewhere; `depth` float32 [64, 64], the distance to the camera,
    nearer is smaller; `caption` such as "a red seven on a blue background" (the nearest digit).
    """

    image: Bytes
    label: int
    mask: Bytes
    depth: Floats
    caption: str


def load_digits() -> tuple[Digits, Digits]:
    """The digits to train on (1,497) and those held out (300), which share no image."""
    from sklearn import datasets

    bunch = datasets.load_digits()
    images = (bunch.images / 16.0).astype(np.float32)
    labels = bunch.target.astype(np.int64)
    held_out = np.arange(len(labels)) % HELD_OUT_EVERY == 0
    return Digits(images[~held_out], labels[~held_out]), Digits(images[held_out], labels[held_out])


def scene(rng: np.random.Generator, digits: Digits, kind: Kind = "crowded") -> Scene:
    """Compose a scene.

    "single": one large bright digit on a dark texture with small clutter (classification).
    "crowded": one to four digits of different sizes, overlapping (segmentation, depth).
    "captioned": one centred digit in a named colour on a plain background (text to image).
    """
    if kind == "captioned":
        return _captioned(rng, digits)
    count = 1 if kind == "single" else int(rng.integers(1, 5))
    low, high = (38.0, 58.0) if kind == "single" else (20.0, 45.0)
    sizes = sorted(rng.uniform(low, high, size=count))  # far (small) digits are painted first
    canvas = _texture(rng)
    if kind == "single":
        _scribble(rng, canvas)
    mask = np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    depth = np.full((IMAGE_SIZE, IMAGE_SIZE), BACKGROUND_DEPTH, np.float32)
    label, centres = 0, list[Point]()
    for size in sizes:
        ink, label = digits.draw(rng)
        reach = max(IMAGE_SIZE / 2 - 0.42 * size, 2.0)
        centre = _apart(IMAGE_SIZE / 2 + rng.uniform(-reach, reach, size=(3, 2)), centres)
        centres.append(centre)
        paint = _paint(canvas, ink, size, centre, _bright(rng), rng)
        mask[paint] = 1 + label
        depth[paint] = FOCAL_LENGTH / size
    canvas += rng.normal(0.0, 3.0, size=canvas.shape).astype(np.float32)
    image = np.clip(canvas, 0, 255).astype(np.uint8)
    return Scene(image, label, mask, depth, f"the digit {NAMES[label]}")


def caption(label: int, colour: str, background: str) -> str:
    """The caption that the text-to-image model is trained on."""
    return f"a {colour} {NAMES[label]} on a {background} background"


def _captioned(rng: np.random.Generator, digits: Digits) -> Scene:
    colour, background = rng.choice(list(COLOURS), size=2, replace=False)
    ink, label = digits.draw(rng)
    canvas = np.empty((IMAGE_SIZE, IMAGE_SIZE, 3), np.float32)
    canvas[:] = np.array(COLOURS[background]) + rng.uniform(-10, 10, size=3)
    size = rng.uniform(46.0, 54.0)
    centre = IMAGE_SIZE / 2 + rng.uniform(-4.0, 4.0, size=2)
    rgb = np.array(COLOURS[colour]) + rng.uniform(-10, 10, size=3)
    paint = _paint(canvas, ink, size, centre, rgb, rng, warp=0.08)
    depth = np.full((IMAGE_SIZE, IMAGE_SIZE), BACKGROUND_DEPTH, np.float32)
    depth[paint] = FOCAL_LENGTH / size
    image = np.clip(canvas, 0, 255).astype(np.uint8)
    mask = np.where(paint, 1 + label, 0).astype(np.uint8)
    return Scene(image, label, mask, depth, caption(label, str(colour), str(background)))


def _paint(
    canvas: Floats,
    ink: Floats,
    size: float,
    centre: Point,
    rgb: Point,
    rng: np.random.Generator,
    warp: float = 0.16,
) -> npt.NDArray[np.bool_]:
    """Blend a digit, `size` pixels high, rotated and sheared by up to about `warp`; its pixels."""
    scale = 8.0 / size
    angle, shear = rng.uniform(-warp, warp, size=2)
    stretch = rng.uniform(1.0 - warp / 2, 1.0 + warp / 2)
    a, b = scale * stretch * np.cos(angle), scale * (np.sin(angle) + shear)
    c, d = -scale * np.sin(angle), scale * np.cos(angle)
    x, y = centre
    padded = Image.fromarray(np.pad(ink, 2))  # a margin, so that strokes end softly
    weights = (a, b, 6.0 - a * x - b * y, c, d, 6.0 - c * x - d * y)
    smooth = padded.transform(
        (IMAGE_SIZE, IMAGE_SIZE), Image.Transform.AFFINE, weights, Image.Resampling.BICUBIC
    )
    threshold = rng.uniform(0.38, 0.52)  # thicker and thinner pens
    coverage = np.asarray(smooth, np.float32) - np.float32(threshold)
    alpha = np.clip(0.5 + coverage / (3.0 * scale), 0.0, 1.0)[..., None]
    canvas += alpha * (rgb.astype(np.float32) - canvas)
    return np.asarray(alpha[..., 0] > 0.5)


def _apart(candidates: Point, centres: list[Point]) -> Point:
    """The candidate farthest from all centres, so that digits overlap but seldom hide."""
    gaps = [min((np.hypot(*(point - c)) for c in centres), default=0.0) for point in candidates]
    return np.asarray(candidates[int(np.argmax(gaps))])


def _texture(rng: np.random.Generator) -> Floats:
    """A smooth, rather dark background [64, 64, 3], 0..255."""
    base = rng.uniform(0, 90, size=3)
    coarse = np.clip(base + rng.normal(0, 18, size=(5, 5, 3)), 0, 255).astype(np.uint8)
    shape = (IMAGE_SIZE, IMAGE_SIZE)
    return np.array(Image.fromarray(coarse).resize(shape, Image.Resampling.BICUBIC), np.float32)


def _scribble(rng: np.random.Generator, canvas: Floats) -> None:
    """Small clutter: a few little blocks of any colour."""
    for _ in range(int(rng.integers(0, 5))):
        top, left = rng.integers(0, IMAGE_SIZE - 4, size=2)
        height, width = rng.integers(2, 9, size=2)
        canvas[top : top + height, left : left + width] = _bright(rng)


def _bright(rng: np.random.Generator) -> Point:
    """A bright colour, 0..255."""
    rgb = rng.uniform(40, 255, size=3)
    return np.asarray(rgb * 245.0 / rgb.max())
