"""The fitting of a token codebook: features of a domain in, `TokenCodebook` out.

Clusters by k-means (Lloyd) where the residual is about white, then a principal-component basis for
each group of clusters, as in mixtures of transforms (Archer and Leen, "A generalized Lloyd-type
algorithm for adaptive transform coder design", 2004). Seeded; the same samples give the same fit.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from .codebook import TokenCodebook, discriminants
from .feature import BOUNDS_OF_MANY, giant_bounds

Floats = NDArray[np.float32]
Index = NDArray[np.int64]

MAX_VALUES = 1 << 27  # of the samples; more are thinned evenly, to keep to 4 GiB of memory
_SUBSPACE = 512  # principal components that clusters are looked for in
_CLUSTER_DIMENSIONS = 128
_ITERATIONS = 6
_REFINED_ITERATIONS = 4
_GROUP_ITERATIONS = 4
_TOKENS_A_CODEWORD = 24  # of those that the centres are moved by
_NOISE_DB = 15.0  # the SNR at whose water level what lies below counts as noise
_PRIOR_TOKENS = 2.1  # the shared covariance counts as so many tokens a channel in each group's
_LARGEST_MULTIPLE = 44.0  # a codeword's largest coefficient in spreads; its step is then 0.35
_GROUPING_TOKENS = 16  # a channel and group


def fit_codebook(
    samples: Sequence[Floats], energy: float, codewords: int, groups: int, seed: int = 0
) -> TokenCodebook:
    """Fit a codebook of at most `codewords` codewords in `groups` groups to float32[t, C] samples.

    `energy` is the profile's E, from which the noise level follows. A codeword needs four tokens or
    more, on average, so a small calibration gives a smaller codebook, and in few groups.
    """
    exact = _thinned(samples)
    tokens = giant_bounds(samples, BOUNDS_OF_MANY).clip(exact)
    mean = tokens.mean(axis=0, dtype=np.float64).astype(np.float32)
    clipped = np.flatnonzero((exact != tokens).any(axis=1))
    beyond = exact[clipped] - tokens[clipped]
    del exact
    tokens -= mean
    centred = torch.from_numpy(tokens)
    noise = energy * 10.0 ** (-_NOISE_DB / 10)
    rng = np.random.default_rng(seed)

    index = _clusters(centred, min(codewords, max(1, len(tokens) // 4)), noise, rng)
    group = _group_codewords(centred, index, groups, noise, rng)
    centres = _means(centred, index, len(group))
    _subtract(centred, centres, index)
    giants = _giants(beyond, clipped, index, len(group))
    return _assemble(mean, centred, index, centres + giants, group, noise)


def _thinned(samples: Sequence[Floats]) -> Floats:
    stride = -(-sum(sample.size for sample in samples) // MAX_VALUES)
    start, parts = 0, []
    for sample in samples:
        parts.append(sample[start % stride :: stride])
        start -= len(sample)
    return np.concatenate(parts)


def _clusters(centred: torch.Tensor, count: int, noise: float, rng: np.random.Generator) -> Index:
    """Return the cluster of each token, the most frequent first, none empty."""
    variance, frame = _leading_components(_covariance(centred), rng)
    scale = 1.0 / torch.sqrt(0.4 * variance + noise)
    places = centred @ (frame * scale)
    index = _k_means(places[:, :_CLUSTER_DIMENSIONS].contiguous(), None, count, _ITERATIONS, rng)
    # Once more where the residual is white: what tells clusters apart is known now.
    centres = _means(places, index, count)
    residual = places.clone()
    _subtract(residual, centres, index)
    # The noise was white before the scaling.
    within = _covariance(residual) + torch.diag(noise * scale**2)
    variance, frame = torch.linalg.eigh(within)
    white = frame / torch.sqrt(variance)
    counts = np.bincount(index, minlength=count)
    basis = discriminants((centres @ white).numpy(), counts, _CLUSTER_DIMENSIONS)
    places = places @ (white @ torch.from_numpy(basis))
    return _by_frequency(_k_means(places, index, count, _REFINED_ITERATIONS, rng))


def _assemble(
    mean: Floats,
    residual: torch.Tensor,
    index: Index,
    centres: torch.Tensor,
    group: NDArray[np.uint8],
    noise: float,
) -> TokenCodebook:
    """Fit each group's basis and the codewords' scales; `centres` [K, C] are the codewords."""
    counts = np.bincount(index, minlength=len(group)).astype(np.int64)
    number, channels = int(group.max()) + 1, len(mean)
    shared = _covariance(residual)
    matrices = np.empty((number, channels, channels), np.float32)
    spreads = np.empty((number, channels), np.float32)
    scales = np.empty((number, channels), np.float32)
    words = np.empty((len(group), channels), np.int8)
    for place in range(number):
        members = group == place
        covariance = shared
        if number > 1:
            covariance = _shrunk(residual[torch.from_numpy(members[index])], shared)
        variance, components = _principal_components(covariance)
        matrices[place] = components.numpy()
        spreads[place] = torch.sqrt(variance + noise).numpy()
        exact = (centres[torch.from_numpy(members)] @ components).numpy()
        largest = np.abs(exact).max(axis=0, initial=0.0)
        largest = np.minimum(largest, _LARGEST_MULTIPLE * spreads[place])
        scales[place] = np.maximum(largest, 1e-6 * spreads[place]) / 127
        words[members] = np.clip(np.rint(exact / scales[place]), -127, 127)
    return TokenCodebook(mean, matrices, spreads, words, scales, group, counts)


def _covariance(rows: torch.Tensor) -> torch.Tensor:
    """Return the second moment [C, C] of rows [n, C]."""
    return rows.T @ rows / max(1, len(rows))


def _shrunk(rows: torch.Tensor, shared: torch.Tensor) -> torch.Tensor:
    """Return the second moment of rows [n, C], drawn towards the shared one when there are few."""
    prior = _PRIOR_TOKENS * rows.shape[1]
    return (rows.T @ rows + prior * shared) / (len(rows) + prior)


def _principal_components(covariance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the variances [C], falling, and the components as columns [C, C]."""
    variance, components = torch.linalg.eigh(covariance)
    return variance.flip(0).clamp_min(0.0), components.flip(1).contiguous()


def _leading_components(
    covariance: torch.Tensor, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the first variances [P] and components [C, P], by subspace iteration for many."""
    channels = len(covariance)
    if channels <= 2 * _SUBSPACE:
        variance, components = _principal_components(covariance)
        return variance[:_SUBSPACE], components[:, :_SUBSPACE]
    start = rng.standard_normal((channels, _SUBSPACE), np.float32)
    frame = torch.from_numpy(start)
    for _ in range(6):
        frame = torch.linalg.qr(covariance @ frame)[0]
    variance, components = _principal_components(frame.T @ covariance @ frame)
    return variance, frame @ components


def _means(rows: torch.Tensor, index: Index, count: int) -> torch.Tensor:
    """Return the mean [count, C] of the rows of each cluster, a little towards zero for few."""
    sums = torch.zeros((count, rows.shape[1]), dtype=torch.float32)
    sums.index_add_(0, torch.from_numpy(index), rows)
    sizes = torch.from_numpy(np.bincount(index, minlength=count).astype(np.float32))
    return sums / (sizes + 1.0)[:, None]


def _subtract(rows: torch.Tensor, centres: torch.Tensor, index: Index) -> None:
    """Take from each row its centre, in place and in blocks."""
    for start in range(0, len(rows), 4096):
        rows[start : start + 4096] -= centres[torch.from_numpy(index[start : start + 4096])]


def _giants(beyond: Floats, clipped: Index, index: Index, count: int) -> torch.Tensor:
    """Return what clipping took from the tokens of each cluster [count, C]: their median.

    `beyond` [n, C] is what it took from the tokens `clipped` int64[n]. The giants of a first token
    are the same every time, and so a codeword's own.
    """
    giants = np.zeros((count, beyond.shape[1]), np.float32)
    sizes = np.bincount(index, minlength=count)
    own = index[clipped]
    for cluster in np.unique(own):
        members = beyond[own == cluster]
        if 2 * len(members) > sizes[cluster]:
            giants[cluster] = np.median(members, axis=0)
    return torch.from_numpy(giants)


def _nearest(places: torch.Tensor, centres: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the nearest centre of each place [n, D] and its squared distance."""
    index, distance = [], []
    bias = (centres**2).sum(1)
    table = -2.0 * centres.T
    rows = max(1, (1 << 22) // len(centres))
    for start in range(0, len(places), rows):
        block = places[start : start + rows]
        least = torch.addmm(bias, block, table).min(dim=1)
        index.append(least.indices)
        distance.append(least.values + (block**2).sum(1))
    return torch.cat(index), torch.cat(distance)


def _k_means(
    places: torch.Tensor,
    index: Index | None,
    count: int,
    iterations: int,
    rng: np.random.Generator,
) -> Index:
    """Cluster places [n, D]; starts from the clusters of `index` if given."""
    moved = places
    if len(places) > _TOKENS_A_CODEWORD * count:
        some = rng.choice(len(places), _TOKENS_A_CODEWORD * count, replace=False)
        moved = places[torch.from_numpy(np.sort(some))]
    if index is None:
        centres = moved[torch.from_numpy(rng.choice(len(moved), count, replace=False))].clone()
    else:
        centres = _means(places, index, count)
    for _ in range(iterations):
        own, distance = _nearest(moved, centres)
        sizes = torch.bincount(own, minlength=count)
        sums = torch.zeros_like(centres).index_add_(0, own, moved)
        centres = sums / sizes.clamp_min(1)[:, None]
        unused = torch.nonzero(sizes == 0).flatten()
        # An unused centre goes to the tokens served worst: giants, and rare kinds of tokens.
        worst = torch.argsort(distance, descending=True, stable=True)[: len(unused)]
        centres[unused] = moved[worst]
    nearest: Index = _nearest(places, centres)[0].numpy()
    return nearest


def _by_frequency(index: Index) -> Index:
    """Number the clusters anew, the most frequent first, without those that have no token."""
    counts = np.bincount(index)
    rank = np.empty(len(counts), np.int64)
    rank[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
    return rank[index]


def _group_codewords(
    centred: torch.Tensor, index: Index, groups: int, noise: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Put each cluster into the group in whose basis its residuals cost the fewest bits."""
    count = int(index.max()) + 1
    if groups == 1 or count < 2 * groups:
        return np.zeros(count, np.uint8)
    centres = _means(centred, index, count)
    some = np.arange(
        0, len(index), max(1, len(index) // (_GROUPING_TOKENS * groups * centred.shape[1]))
    )
    own = index[some]
    residual = centred[torch.from_numpy(some)]
    _subtract(residual, centres, own)
    shared = _covariance(residual)
    variance, frame = _principal_components(shared)
    white = centres @ (frame / torch.sqrt(variance + noise))
    group = _k_means(white[:, :_CLUSTER_DIMENSIONS].contiguous(), None, groups, 8, rng)
    for _ in range(_GROUP_ITERATIONS):
        bits = np.zeros((groups, count))
        for number in range(groups):
            rows = residual[torch.from_numpy(group[own] == number)]
            variance, frame = _principal_components(_shrunk(rows, shared))
            level = variance.clamp_min(noise)
            cost = (((residual @ frame) ** 2) / level).sum(1) + torch.log(level).sum()
            bits[number] = np.bincount(own, cost.numpy(), minlength=count)
        group = bits.argmin(axis=0)
    return np.unique(group, return_inverse=True)[1].astype(np.uint8)
