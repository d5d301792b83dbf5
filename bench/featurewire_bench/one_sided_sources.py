"""Networks trained here on photographs and text, and how the one-sided mode's tables do on each.

The frozen tables were trained on others. Maps on a grid of 16 x 16 with and without normalisation,
dense and sparse; features without a grid: patches through layers, and feed-forward
layers of transformers.

    python -m featurewire_bench.one_sided_sources --photographs FOLDER --text FILE --out FOLDER
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from featurewire_codec.one_sided_tables import load_one_sided
from featurewire_codec.one_sided_training import read_source
from featurewire_codec.one_sided_universality import code_lengths
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from featurewire_bench.errors import SampleError
from featurewire_bench.one_sided_networks import (
    CHANNELS,
    PATCH,
    WIDTH,
    MapNet,
    PatchNet,
    Transformer,
)

SEED, STEPS, BATCH, RATE = 1, 1200, 16, 1e-3
SIDE, TEXT_TOKENS = 64, 128
NOISE, SPARSE, MASKED = 0.15, 1.0, 0.4
_FEWEST, _PIXELS = 40, 256
Features = Iterator[tuple[str, Tensor]]


class Photographs:
    """Random crops of photographs, all of one size; a fifth of them is for features only."""

    def __init__(self, folder: Path) -> None:
        """Raises SampleError when the folder holds fewer than 40 images."""
        files = sorted(f for f in folder.glob("*") if f.suffix.lower() in (".jpeg", ".jpg", ".png"))
        if len(files) < _FEWEST:
            raise SampleError(f"{folder} holds {len(files)} images, {_FEWEST} are needed at least")
        size = (_PIXELS, _PIXELS)
        images = np.stack([np.asarray(Image.open(f).convert("RGB").resize(size)) for f in files])
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - 0.45
        self.seen, self.unseen = pixels[: len(files) * 4 // 5], pixels[len(files) * 4 // 5 :]
        self._random = torch.Generator().manual_seed(SEED)

    def crops(self, count: int, side: int = SIDE, unseen: bool = False) -> Tensor:
        """Return float32[count, 3, side, side]."""
        pool = self.unseen if unseen else self.seen
        cut = []
        for _ in range(count):
            image = pool[int(torch.randint(len(pool), (1,), generator=self._random))]
            y, x = torch.randint(_PIXELS - side + 1, (2,), generator=self._random).tolist()
            cut.append(image[:, y : y + side, x : x + side])
        return torch.stack(cut)


def fit(net: nn.Module, loss: Callable[[], Tensor], steps: int, rate: float = RATE) -> None:
    """Train a network on what `loss` returns each step."""
    adam = torch.optim.Adam(net.parameters(), rate)
    for _ in range(steps):
        adam.zero_grad()
        loss().backward()  # type: ignore[no-untyped-call]
        adam.step()
    net.eval()


def missed(restored: Tensor, images: Tensor) -> Tensor:
    """Return the mean squared error."""
    error: Tensor = (restored - images).square().mean()
    return error


def to_patches(images: Tensor) -> Tensor:
    """[n, 3, side, side] to [n, patches, 192]."""
    return functional.unfold(images, PATCH, stride=PATCH).transpose(1, 2)


def maps(photographs: Photographs, count: int, steps: int) -> Features:
    """Train the networks whose features lie on a grid: [count, 16, 16, 64] of each."""

    def picture() -> nn.Module:
        up = nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 3, 1, 1), nn.ReLU())
        return nn.Sequential(up, nn.Conv2d(CHANNELS, 48, 3, 1, 1), nn.PixelShuffle(4))

    def quarter_turns() -> nn.Module:
        down = nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 3, 2, 1), nn.ReLU())
        return nn.Sequential(down, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, 4))

    def same(images: Tensor) -> Tensor:
        return images

    def coarse(images: Tensor) -> Tensor:
        halved = functional.avg_pool2d(images, 2)
        return functional.interpolate(halved, scale_factor=2.0, mode="bilinear")

    for name, normalised, spoil, sparse in (
        ("autoencoder-plain", False, same, 0.0),
        ("denoiser-plain", False, with_noise, 0.0),
        ("super-resolution-plain", False, coarse, 0.0),
        ("autoencoder-sparse", True, same, SPARSE),
        ("denoiser", True, with_noise, 0.0),
    ):
        net = MapNet(normalised, picture())

        def restored(
            net: MapNet = net, spoil: Callable[[Tensor], Tensor] = spoil, sparse: float = sparse
        ) -> Tensor:
            images = photographs.crops(BATCH)
            loss: Tensor = 50 * missed(net(spoil(images)), images) + sparse * net.feature.mean()
            return loss

        fit(net, restored, steps)
        yield name, net.head(photographs.crops(count, unseen=True)).permute(0, 2, 3, 1)
    turner = MapNet(True, quarter_turns())

    def turned() -> Tensor:
        turns = torch.randint(4, (BATCH,))
        pairs = zip(photographs.crops(BATCH), turns.tolist(), strict=True)
        images = torch.stack([torch.rot90(image, turn, (1, 2)) for image, turn in pairs])
        return functional.cross_entropy(turner(images), turns)

    fit(turner, turned, steps)
    yield "rotation", turner.head(photographs.crops(count, unseen=True)).permute(0, 2, 3, 1)


def with_noise(images: Tensor) -> Tensor:
    """The images and noise."""
    return images + NOISE * torch.randn(images.shape)


def patches(photographs: Photographs, count: int, steps: int) -> Features:
    """Train the networks that see one patch at a time: [count, 256, 64] of each."""
    for name, spoil, sparse in (
        ("patch-autoencoder", False, 0.0),
        ("patch-denoiser", True, 0.0),
        ("patch-sparse", False, SPARSE),
    ):
        net = PatchNet(3 * PATCH**2)

        def restored(net: PatchNet = net, spoil: bool = spoil, sparse: float = sparse) -> Tensor:
            images = photographs.crops(BATCH)
            seen = to_patches(with_noise(images) if spoil else images)
            loss: Tensor = 50 * missed(net(seen), to_patches(images)) + sparse * net.feature.mean()
            return loss

        fit(net, restored, steps)
        yield name, net.head(to_patches(photographs.crops(count, 2 * SIDE, unseen=True)))
    namer = PatchNet(len(photographs.seen))

    def named() -> Tensor:
        which = torch.randint(len(photographs.seen), (BATCH,))
        guessed = namer(to_patches(photographs.seen[which, :, :128, :128]))
        return functional.cross_entropy(
            guessed.flatten(0, 1), which.repeat_interleave(guessed.shape[1])
        )

    fit(namer, named, steps)
    yield "patch-classifier", namer.head(to_patches(photographs.crops(count, 128, unseen=True)))


def transformers(photographs: Photographs, text: str, count: int, steps: int) -> Features:
    """Train one transformer on text, one on photographs: [count, 128 or 64, 192] of a layer."""
    letters = sorted(set(text))
    codes = torch.tensor([letters.index(letter) for letter in text])
    reader = Transformer(nn.Embedding(len(letters), WIDTH), TEXT_TOKENS, 3, len(letters), True)
    seen = len(codes) * 9 // 10

    def windows(start: int, stop: int, count: int) -> Tensor:
        starts = torch.randint(start, stop - TEXT_TOKENS - 1, (count,)).tolist()
        return torch.stack([codes[at : at + TEXT_TOKENS + 1] for at in starts])

    def read() -> Tensor:
        window = windows(0, seen, BATCH)
        guessed = reader(window[:, :-1]).flatten(0, 1)
        return functional.cross_entropy(guessed, window[:, 1:].flatten())

    fit(reader, read, steps, 2 * RATE)
    reader(windows(seen, len(codes), count)[:, :-1])
    for number in (0, 2):
        yield f"text.{number}", reader.layers[number].feature
    pixels = 3 * PATCH**2
    seer = Transformer(nn.Linear(pixels, WIDTH), (SIDE // PATCH) ** 2, 2, pixels, False)

    def filled() -> Tensor:
        shown = to_patches(photographs.crops(BATCH))
        masked = torch.rand(shown.shape[:2]) < MASKED
        return 50 * missed(seer(shown, masked)[masked], shown[masked])

    fit(seer, filled, steps)
    seer(to_patches(photographs.crops(count, unseen=True)))
    yield "photographs", seer.layers[1].feature


def main(arguments: list[str] | None = None) -> None:
    """Train them all, write their features, and print how the frozen tables do on each."""
    parser = argparse.ArgumentParser(
        prog="python -m featurewire_bench.one_sided_sources", description=main.__doc__
    )
    parser.add_argument("--photographs", type=Path, required=True, help="folder of images")
    parser.add_argument("--text", type=Path, required=True, help="file of plain text")
    parser.add_argument("--out", type=Path, required=True, help="folder for NAME.npy of each")
    parser.add_argument("--count", type=int, default=192, help="samples of each")
    parser.add_argument("--steps", type=int, default=STEPS, help="training steps of each")
    options = parser.parse_args(arguments)
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    photographs, text = Photographs(options.photographs), options.text.read_text(encoding="utf-8")
    about = options.count, options.steps
    options.out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    print("| network | grid | zeros | bits | over own ideal | over own of other samples |")
    print("|---|---|---:|---:|---:|---:|")
    for made in (
        maps(photographs, *about),
        patches(photographs, *about),
        transformers(photographs, text, *about),
    ):
        for name, feature in made:
            array = feature.detach().numpy()
            np.save(options.out / f"{name}.npy", array)
            grid = (array.shape[1], array.shape[2]) if array.ndim == 4 else None
            samples = list(array.reshape(len(array), -1, array.shape[-1]))
            bits, own, learned = code_lengths(read_source(name, samples, grid), *load_one_sided())
            shown = f"{grid[0]} x {grid[1]}" if grid else "none"
            print(
                f"| {name} | {shown} | {np.mean(array == 0):.0%} | {bits:.3f} "
                f"| {bits / own - 1:+.1%} | {bits / learned - 1:+.1%} |",
                flush=True,
            )
    print(f"{(time.monotonic() - started) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
