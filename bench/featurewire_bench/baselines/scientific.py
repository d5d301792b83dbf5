"""General compressors of floating-point arrays: zfp and SZ3, as their authors distribute them.

On a grid both see channels as images: zfp [channels * rows, columns], whose 4 x 4 blocks then lie
within one; SZ3 [channels, rows, columns]. Elsewhere they see [tokens, channels].
Sources: P. Lindstrom, "Fixed-rate compressed floating-point arrays", IEEE TVCG 2014; X. Liang et
al., "SZ3", IEEE TBD 2022.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from featurewire_bench.sources import Array, Grid, Part

from .coder import Shape, required


@dataclass(frozen=True)
class Zfp:
    """zfp with a bound on the absolute error, its own header left out."""

    tolerance: float
    grid: Grid | None

    def encode(self, feature: Array) -> bytes:
        """float32 [tokens, channels] to bytes."""
        zfpy = required("zfpy")
        array = _as_images(feature, self.grid)
        array = array.reshape(-1, array.shape[-1])
        data: bytes = zfpy.compress_numpy(array, tolerance=self.tolerance, write_header=False)
        return data

    def decode(self, data: bytes, shape: Shape) -> Array:
        """The inverse of `encode`."""
        zfpy = required("zfpy")
        whole = _image_shape(shape, self.grid)
        flat = (int(np.prod(whole[:-1])), whole[-1])
        kind = zfpy.dtype_to_ztype(np.dtype(np.float32))
        array = zfpy._decompress(data, kind, flat, tolerance=self.tolerance)
        return _from_images(np.asarray(array).reshape(whole), shape, self.grid)


@dataclass(frozen=True)
class Sz3:
    """SZ3 with a bound on the absolute error and one of its prediction algorithms."""

    bound: float
    algorithm: int
    grid: Grid | None

    def encode(self, feature: Array) -> bytes:
        """float32 [tokens, channels] to bytes."""
        pysz = required("pysz")
        config = pysz.szConfig()
        config.errorBoundMode = pysz.szErrorBoundMode.ABS
        config.absErrorBound = self.bound
        config.cmprAlgo = self.algorithm
        data, _ = pysz.sz.compress(_as_images(feature, self.grid), config)
        return bytes(data)

    def decode(self, data: bytes, shape: Shape) -> Array:
        """The inverse of `encode`."""
        pysz = required("pysz")
        whole = _image_shape(shape, self.grid)
        array, _ = pysz.sz.decompress(np.frombuffer(data, np.uint8).copy(), np.float32, whole)
        return _from_images(array, shape, self.grid)


def zfp(part: Part, snr_db: float) -> Zfp:
    """zfp keeps well below its tolerance, so it is asked for a looser one."""
    return Zfp(4 * part.step(snr_db), part.test_grid)


def sz3(part: Part, snr_db: float) -> Sz3:
    """SZ3 with the algorithm that makes the first calibration sample smallest."""
    algorithms = required("pysz").szAlgorithm
    bound, first = part.step(snr_db) / 2, part.calibration[0]

    def size(algorithm: int) -> int:
        return len(Sz3(bound, algorithm, part.grid).encode(first))

    choices = (algorithms.INTERP_LORENZO, algorithms.LORENZO_REG, algorithms.NOPRED)
    return Sz3(bound, min(choices, key=size), part.test_grid)


def _image_shape(shape: Shape, grid: Grid | None) -> tuple[int, ...]:
    tokens, channels = shape
    fits = grid is not None and grid[0] * grid[1] == tokens
    return (channels, *grid) if grid and fits else shape


def _as_images(feature: Array, grid: Grid | None) -> Any:
    shape = (feature.shape[0], feature.shape[1])
    whole = _image_shape(shape, grid)
    return np.ascontiguousarray(feature if whole == shape else feature.T.reshape(whole))


def _from_images(array: Array, shape: Shape, grid: Grid | None) -> Array:
    if _image_shape(shape, grid) == shape:
        return array
    return np.ascontiguousarray(array.reshape(shape[1], shape[0]).T)
