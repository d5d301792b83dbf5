"""Fitting: samples of a domain in, every transform that could suit them out, and column scales."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from .block_dct import BlockDct
from .codebook import TokenCodebook
from .codebook_fit import fit_codebook
from .entropy_model import LEVELS_PER_OCTAVE, UNIT_LEVEL
from .feature import BOUNDS_OF_MANY, giant_bounds
from .one_sided_fit import fit_channel_weights
from .one_sided_rounding import SNRS_DB, Samples
from .one_sided_shapes import SHAPE_SNRS_DB, choose_mixture, choose_shapes
from .one_sided_tables import load_one_sided
from .one_sided_transform import OneSided
from .quantiser import step_for
from .task_weight import TaskWeight
from .transform import ChannelKlt, Geometry, Identity, Transform

Arrays = Sequence[NDArray[np.float32]]

MIN_TOKENS_A_CHANNEL = 8  # below it a KLT is shrunk, and a person warned
BLOCKS = (4, 8)
MAX_MATRIX_VALUES = 1 << 24  # beyond it (64 MiB) a block transform shares one KLT
_OFFSET_LIMIT = 1000
MIN_CODEWORDS, MANY_CODEWORDS, MAX_CODEWORDS, TOKENS_A_CODEWORD = 16, 2048, 4096, 16
_MAX_ONE_SIDED_FEATURES, _ONE_SIDED_SNR_DB = 1 << 22, 15.0
_MAX_SHAPED_FEATURES = 1 << 19
MAX_GROUPS, TOKENS_A_GROUP = 8, 8


def fit_transforms(
    arrays: Arrays,
    grid: tuple[int, int] | None,
    scale: float,
    codebooks: Sequence[tuple[int, int]] | None = None,
) -> Iterable[tuple[str, Transform]]:
    """Fit every mode, yielding its name and transform; giants are clipped first.

    `scale` is E of the features, `codebooks` the numbers of codewords and groups to try; None
    tries those that suit the number of tokens.
    """
    clipped = _without_giants(arrays)
    tokens, channels = sum(map(len, clipped)), clipped[0].shape[1]
    mean = _mean(clipped)
    yield "identity", Identity(mean)
    yield "klt", _fit_klt(clipped, mean)
    for codewords, groups in codebook_sizes(tokens, channels) if codebooks is None else codebooks:
        codebook = fit_codebook(arrays, scale, codewords, groups)
        yield _codebook_name(codebook), codebook
    if all(float(array.min()) >= 0.0 for array in arrays):
        yield "one-sided", _fit_one_sided(arrays, grid, scale)
    if grid:
        for block in BLOCKS:
            if max(grid) >= block:
                yield f"dct{block}", _fit_block_dct(clipped, grid, block)


def fit_weighted(
    like: Transform,
    arrays: Arrays,
    grid: tuple[int, int] | None,
    scale: float,
    weight: TaskWeight,
) -> tuple[str, Transform]:
    """Fit the mode of `like` with a weight in its matrices: its name and transform.

    A KLT where `like` has none.
    """
    if isinstance(like, TokenCodebook):
        words, groups = len(like.codewords), len(like.matrices)
        codebook = fit_codebook(arrays, scale, words, groups, weight=weight)
        return f"{_codebook_name(codebook)}, task", codebook
    clipped = _without_giants(arrays)
    if isinstance(like, BlockDct) and grid:
        return f"dct{like.block}, task", _fit_block_dct(clipped, grid, like.block, weight)
    return "klt, task", _fit_klt(clipped, _mean(clipped), weight)


def _without_giants(arrays: Arrays) -> Arrays:
    bounds = giant_bounds(arrays, BOUNDS_OF_MANY)
    return [bounds.clip(array) for array in arrays]


def _mean(arrays: Arrays) -> NDArray[np.float32]:
    total = sum(array.sum(axis=0, dtype=np.float64) for array in arrays)
    mean: NDArray[np.float32] = (total / sum(map(len, arrays))).astype(np.float32)
    return mean


def _codebook_name(codebook: TokenCodebook) -> str:
    return f"codebook{len(codebook.codewords)}x{len(codebook.matrices)}"


def _fit_klt(
    arrays: Arrays, mean: NDArray[np.float32], weight: TaskWeight | None = None
) -> ChannelKlt:
    tokens = sum(map(len, arrays))
    return ChannelKlt(mean, _principal_components(_gram(arrays, mean), tokens, weight), weight)


def _gram(arrays: Arrays, mean: NDArray[np.float32]) -> NDArray[np.float64]:
    """Sum x^T x over the tokens x less their mean: float64[channels, channels]."""
    import torch

    gram = torch.zeros((len(mean), len(mean)), dtype=torch.float64)
    for array in arrays:
        centred = torch.from_numpy(array - mean)
        gram += centred.T @ centred
    return gram.numpy()


def codebook_sizes(tokens: int, channels: int) -> list[tuple[int, int]]:
    """Return the numbers of codewords and of groups to try.

    What a domain's tokens repeat decides how many codewords are too many; only trying tells.
    """
    most = min(MAX_CODEWORDS, tokens // TOKENS_A_CODEWORD)
    groups = min(MAX_GROUPS, tokens // (TOKENS_A_GROUP * channels)) if channels <= 1024 else 1
    sizes = [most, most // 4] if most > MANY_CODEWORDS else [most, most // 4, most // 16]
    return [(codewords, max(1, groups)) for codewords in sizes if codewords >= MIN_CODEWORDS]


def column_offsets(
    transform: Transform, arrays: Arrays, grid: tuple[int, int] | None
) -> NDArray[np.int32]:
    """Measure the level of each column at a step of one: quarter-octaves of its mean magnitude."""
    total = np.zeros(transform.columns)
    count = np.zeros(transform.columns)
    bounds = giant_bounds(arrays, BOUNDS_OF_MANY)
    for array in map(bounds.clip, arrays):
        geometry, span = Geometry.of(array, grid), range(len(array))
        index = transform.search(array)
        layout = transform.layout(geometry, span, index)
        assert layout is not None  # all of a sample is a span of every transform
        for panel, values in zip(
            layout.panels, transform.forward(array, geometry, span, index), strict=True
        ):
            np.add.at(total, panel.columns, np.abs(values).sum(axis=0, dtype=np.float64))
            np.add.at(count, panel.columns, len(values))
    mean = total / np.maximum(count, 1)
    mean[count == 0] = mean.max()  # never seen: as large as any
    octaves = np.log2(np.maximum(mean, 2.0 ** (-_OFFSET_LIMIT / LEVELS_PER_OCTAVE)))
    levels = np.rint(LEVELS_PER_OCTAVE * octaves) + UNIT_LEVEL
    offsets: NDArray[np.int32] = np.clip(levels, -_OFFSET_LIMIT, _OFFSET_LIMIT).astype(np.int32)
    return offsets


def _fit_one_sided(arrays: Arrays, grid: tuple[int, int] | None, scale: float) -> OneSided:
    """Fit what predicts channels, at the step of a middling SNR, and choose their shapes."""
    some = _some(arrays, grid, _MAX_ONE_SIDED_FEATURES)
    identity = Identity(np.zeros(arrays[0].shape[1], np.float32))
    offsets = column_offsets(identity, arrays, grid)
    parameters, tables = load_one_sided()

    def steps(snrs_db: Iterable[float]) -> list[int]:
        return [step_for(scale, snr_db) for snr_db in snrs_db]

    (middling,) = steps([_ONE_SIDED_SNR_DB])
    weights = fit_channel_weights(some, grid, offsets, middling, parameters)
    few = Samples(_some(arrays, grid, _MAX_SHAPED_FEATURES), grid, offsets)
    weights = choose_shapes(few, steps(SHAPE_SNRS_DB), weights, parameters, tables)
    return OneSided(choose_mixture(few, steps(SNRS_DB), weights, parameters, tables))


def _some(arrays: Arrays, grid: tuple[int, int] | None, features: int) -> Arrays:
    """Take samples spread evenly, of about so many features, and of each that has no grid as many.

    Samples on a grid are taken whole.
    """
    some = arrays[:: -(-sum(array.size for array in arrays) // features)]
    if grid is None:
        some = [array[:: -(-array.size // features)] for array in some]
    return some


def _fit_block_dct(
    samples: Arrays, grid: tuple[int, int], block: int, weight: TaskWeight | None = None
) -> BlockDct:
    channels = samples[0].shape[1]
    prefix = len(samples[0]) - grid[0] * grid[1]
    mean = np.concatenate([sample[prefix:] for sample in samples]).mean(axis=0)
    prefix_mean = np.concatenate([s[:prefix] for s in samples]).mean(axis=0) if prefix else mean
    shared = block**2 * channels**2 > MAX_MATRIX_VALUES
    count = 1 if shared else block**2
    half_way = BlockDct(mean, prefix_mean, np.eye(channels, dtype=np.float32)[None], block)
    covariances = np.zeros((count, channels, channels))
    blocks = np.zeros(count, np.int64)
    for sample in samples:
        geometry = Geometry.of(sample, grid)
        _, spectra = half_way.spectra(sample, geometry, range(len(sample)))
        for frequencies, spectrum in spectra:
            grams = spectrum.swapaxes(-1, -2) @ spectrum
            places = np.zeros_like(frequencies) if shared else frequencies
            np.add.at(covariances, places, grams)
            np.add.at(blocks, places, spectrum.shape[2])
    matrices = [
        _principal_components(gram, int(number), weight)
        for gram, number in zip(covariances, blocks, strict=True)
    ]
    return BlockDct(mean, prefix_mean, np.stack(matrices), block, weight)


def _principal_components(
    gram: NDArray[np.floating], count: int, weight: TaskWeight | None
) -> NDArray[np.float32]:
    """Return the eigenvectors of a covariance, the largest first; few samples shrink it.

    With a weight, those of the covariance that weighted features have.
    """
    import torch

    channels = len(gram)
    gram = gram.astype(np.float64)
    if count < MIN_TOKENS_A_CHANNEL * channels:
        share = channels / (count + channels)
        gram = (1 - share) * gram + share * np.diag(np.diag(gram))
    if weight is not None:
        gram = weight.matrix @ gram @ weight.matrix  # it is symmetric
    components = torch.linalg.eigh(torch.from_numpy(gram))[1].numpy()
    return np.ascontiguousarray(components[:, ::-1], dtype=np.float32)
