"""A small decoder of the autoencoder's latents, for a metric of their task: the pictures they make.

Latents with 32 channels in, pictures of eight times the rows and columns out. The autoencoder's own
decoder is not at hand; this one is fitted to photographs and their latents.
`python -m featurewire_bench.latent_decoder` trains it again, weights beside this file.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from featurewire_bench.errors import SampleError

WEIGHTS = Path(__file__).with_name("latent_decoder.safetensors")
CHANNELS, SCALE = 32, 8
STEPS, BATCH, CROP, RATE = 12000, 32, 16, 1e-3
HELD_OUT = 10  # pictures
SEED = 5


class Block(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, maps: Tensor) -> Tensor:
        """[n, channels, height, width], the same out."""
        changed: Tensor = self.second(functional.silu(self.first(functional.silu(maps))))
        return maps + changed


class LatentDecoder(nn.Module):
    """Three doublings of the grid, by shuffling channels into places."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(CHANNELS, 64, 3, padding=1),
            Block(64),
            Block(64),
            *(nn.Conv2d(64, 4 * 48, 3, padding=1), nn.PixelShuffle(2), Block(48)),
            *(nn.Conv2d(48, 4 * 24, 3, padding=1), nn.PixelShuffle(2), Block(24)),
            *(nn.Conv2d(24, 4 * 3, 3, padding=1), nn.PixelShuffle(2)),
        )

    def forward(self, latents: Tensor) -> Tensor:
        """float32 [n, 32, rows, columns] to [n, 3, 8 rows, 8 columns], 0 black and 1 white."""
        pictures: Tensor = self.layers(latents)
        return pictures

    @torch.inference_mode()
    def grey_levels(self, latents: np.ndarray, grid: tuple[int, int]) -> Tensor:
        """Latents float32 [tokens, 32] in raster order to [3, height, width] from 0 to 255."""
        planes = torch.from_numpy(latents.T.reshape(1, CHANNELS, *grid).copy())
        levels: Tensor = 255 * self(planes)[0].clamp(0, 1)
        return levels


@dataclass(frozen=True)
class Pairs:
    """latents float32 [n, 32, rows, columns] and pictures [n, 3, 8 rows, 8 columns], 0 to 1."""

    latents: Tensor
    pictures: Tensor

    @classmethod
    def read(cls, latents: Path, photographs: Path) -> "Pairs":
        """Read an .npz whose first array is of the folder's first pictures, in their order.

        Raises:
            SampleError: a file is none of these, or of other numbers or sizes.
        """
        from PIL import Image

        try:
            with np.load(latents, allow_pickle=False) as arrays:
                rows = np.asarray(arrays[arrays.files[0]], np.float32)
            side = round(rows.shape[1] ** 0.5)
            planes = rows.reshape(len(rows), side, side, CHANNELS).transpose(0, 3, 1, 2)
            files = sorted(photographs.iterdir())[: len(rows)]
            pixels = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
        except (OSError, ValueError, IndexError) as error:
            raise SampleError(f"no latents and their pictures: {error}") from error
        pictures = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        if pictures.shape != (len(rows), 3, SCALE * side, SCALE * side):
            raise SampleError(
                f"latents of {side} x {side} have pictures of {SCALE * side} x {SCALE * side}, "
                f"these are {tuple(pictures.shape)}"
            )
        return cls(torch.from_numpy(np.ascontiguousarray(planes)), pictures)

    def crops(self, count: int, generator: torch.Generator) -> "Pairs":
        """Cut pairs of squares out at random."""
        latents, pictures = [], []
        places = self.latents.shape[-1] - CROP + 1
        drawn = torch.randint(len(self.latents), (count,), generator=generator).tolist()
        for number in drawn:
            y, x = torch.randint(places, (2,), generator=generator).tolist()
            latents.append(self.latents[number, :, y : y + CROP, x : x + CROP])
            inside = (slice(SCALE * start, SCALE * (start + CROP)) for start in (y, x))
            pictures.append(self.pictures[number][:, *inside])
        return Pairs(torch.stack(latents), torch.stack(pictures))


def load_decoder(path: Path = WEIGHTS) -> LatentDecoder:
    """Read the trained decoder; SampleError when its weights are missing or of another shape."""
    decoder = LatentDecoder()
    try:
        decoder.load_state_dict(load_file(path))
    except (OSError, RuntimeError) as error:
        raise SampleError(f"{path} holds no weights of this decoder: {error}") from error
    return decoder.eval()


def train(pairs: Pairs, steps: int, device: str) -> LatentDecoder:
    """Fit a decoder to all but the last pictures, and print how near those come."""
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    decoder = LatentDecoder().to(device)
    seen = Pairs(pairs.latents[:-HELD_OUT].to(device), pairs.pictures[:-HELD_OUT].to(device))
    unseen = pairs.latents[-HELD_OUT:].to(device), pairs.pictures[-HELD_OUT:].to(device)
    adam = torch.optim.AdamW(decoder.parameters(), RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, RATE, total_steps=steps)
    started = time.monotonic()
    for step in range(1, steps + 1):
        batch = seen.crops(BATCH, generator)
        loss = functional.mse_loss(decoder(batch.latents), batch.pictures)
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        schedule.step()
        if step % 1000 == 0 or step == steps:
            with torch.inference_mode():
                missed = functional.mse_loss(decoder(unseen[0]).clamp(0, 1), unseen[1])
            minutes = (time.monotonic() - started) / 60
            near = -10 * missed.log10().item()
            print(f"step {step}, {minutes:.1f} min, loss {loss:.5f}, held out {near:.2f} dB")
    return decoder.cpu().eval()


def main(arguments: list[str] | None = None) -> None:
    """Train and save, in float16."""
    parser = argparse.ArgumentParser(
        prog="python -m featurewire_bench.latent_decoder",
        description="Train the benchmark's decoder of latents: a minute and a half of a GPU.",
    )
    parser.add_argument("--latents", type=Path, required=True, help=".npz, see RESULTS.md")
    parser.add_argument("--photographs", type=Path, required=True, help="folder of the pictures")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="file to write")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(arguments)
    decoder = train(Pairs.read(options.latents, options.photographs), options.steps, options.device)
    save_file({name: held.half() for name, held in decoder.state_dict().items()}, options.out)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
