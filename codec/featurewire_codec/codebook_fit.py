"""The fitting of a token codebook: features of a domain in, `TokenCodebook` out.

Clusters by k-means (Lloyd) where the residual is about white, then a principal-component basis for
each group of clusters, as in mixtures of transforms (Archer and Leen, "A generalized Lloyd-type
algorithm for adaptive transform coder design", 2004). Seeded; the same samples give the same fit.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from .codebook import TokenCodebook, search_basis
from .feature import clip_giants

Floats = NDArray[np.float32]

_CLUSTER_DIMENSIONS = 128
_ITERATIONS = 6
_REFINED_ITERATIONS = 4
_GROUP_ITERATIONS = 4
_TOKENS_A_CODEWORD = 24  # of those that the centres are moved by
_NOISE_DB = 15.0  # the SNR at whose water level what lies below counts as noise
_PRIOR_TOKENS = 2.1  # a group's covariance is worth the shared one at so many tokens a channel
_LARGEST_MULTIPLE = 44.0  # a codeword's largest coefficient in spreads; the step is then 0.35


def fit_codebook(
    samples: Sequence[Floats], energy: float, codewords: int, groups: int, seed: int = 0
) -> TokenCodebook:
    """Fit a codebook of at most `codewords` codewords in `groups` groups to float32[t, C] samples.

    `energy` is the profile's E, from which the noise level follows. A codeword that no token chose
    is left out, so a small calibration gives a smaller codebook.
    """
    exact = np.concatenate(samples)
    tokens = clip_giants(exact)
    mean = tokens.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = torch.from_numpy(tokens - mean)
    noise = energy * 10.0 ** (-_NOISE_DB / 10)
    rng = np.random.default_rng(seed)

    variance, frame = _principal_components(_covariance(centred))
    spread = np.sqrt(0.4 * variance + noise)
    basis = torch.from_numpy((frame / spread)[:, :_CLUSTER_DIMENSIONS].copy())
    count = min(codewords, max(1, len(tokens) // 4))
    places = centred @ basis
    index, centres = _k_means(places, None, count, _ITERATIONS, rng)
    # Once more where the residual is white: what tells clusters apart is now known.
    draft = _assemble(tokens, exact, mean, index, np.zeros(len(centres), np.uint8), noise)
    del places
    basis = torch.from_numpy(np.ascontiguousarray(search_basis(draft, _CLUSTER_DIMENSIONS)[0]))
    index, centres = _k_means(centred @ basis, index, len(centres), _REFINED_ITERATIONS, rng)
    index = _without_gaps(index)
    group = _group_codewords(centred, index, groups, noise, rng)
    return _assemble(tokens, exact, mean, index, group, noise)


def _assemble(
    tokens: Floats,
    exact: Floats,
    mean: Floats,
    index: NDArray[np.int64],
    group: NDArray[np.uint8],
    noise: float,
) -> TokenCodebook:
    """Fit means, bases and scales to the clusters that `index` int64[tokens] names."""
    channels = tokens.shape[1]
    count = len(group)
    counts = np.bincount(index, minlength=count).astype(np.int64)
    centred = tokens - mean
    centres = _means(centred, index, count)
    residual = centred
    residual -= centres[index]
    number = int(group.max()) + 1
    shared = _covariance(torch.from_numpy(residual))
    matrices = np.empty((number, channels, channels), np.float32)
    spreads = np.empty((number, channels), np.float32)
    scales = np.empty((number, channels), np.float32)
    words = np.empty((count, channels), np.int8)
    centres += _giants(tokens, exact, index, count)
    for place in range(number):
        members = group == place
        covariance = shared
        if number > 1:
            rows = residual[members[index]]
            prior = _PRIOR_TOKENS * channels
            own = _covariance(torch.from_numpy(rows)) if len(rows) else shared
            covariance = (len(rows) * own + prior * shared) / (len(rows) + prior)
        variance, matrices[place] = _principal_components(covariance)
        spreads[place] = np.sqrt(np.maximum(variance, 0.0) + noise)
        exact_words = centres[members] @ matrices[place]
        largest = np.abs(exact_words).max(axis=0, initial=0.0)
        largest = np.minimum(largest, _LARGEST_MULTIPLE * spreads[place])
        scales[place] = np.maximum(largest, 1e-6 * spreads[place]) / 127
        words[members] = np.clip(np.rint(exact_words / scales[place]), -127, 127)
    return TokenCodebook(mean, matrices, spreads, words, scales, group, counts)


def _covariance(rows: torch.Tensor) -> Floats:
    """Return the second moment [C, C] of rows [n, C]."""
    moment: Floats = (rows.T @ rows).numpy() / max(1, len(rows))
    return moment


def _principal_components(covariance: Floats) -> tuple[Floats, Floats]:
    """Return the variances [C], falling, and the components as columns [C, C]."""
    variance, components = torch.linalg.eigh(torch.from_numpy(covariance))
    falling = components.flip(1).contiguous().numpy()
    return variance.flip(0).clamp_min(0.0).numpy(), falling


def _means(rows: Floats, index: NDArray[np.int64], count: int) -> Floats:
    """Return the mean [count, C] of the rows of each cluster, a little towards zero for few."""
    sums = torch.zeros((count, rows.shape[1]), dtype=torch.float32)
    sums.index_add_(0, torch.from_numpy(index), torch.from_numpy(rows))
    sizes = np.bincount(index, minlength=count) + 1.0
    means: Floats = sums.numpy() / sizes[:, None].astype(np.float32)
    return means


def _giants(tokens: Floats, exact: Floats, index: NDArray[np.int64], count: int) -> Floats:
    """Return what clipping took from the tokens of each cluster [count, C]: their median.

    A first token's giants are the same every time, and so a codeword's own.
    """
    beyond = np.zeros((count, tokens.shape[1]), np.float32)
    clipped = np.flatnonzero((exact != tokens).any(axis=1))
    for cluster in np.unique(index[clipped]):
        members = np.flatnonzero(index == cluster)
        beyond[cluster] = np.median(exact[members] - tokens[members], axis=0)
    return beyond


def _nearest(places: torch.Tensor, centres: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the nearest centre of each place [n, D] and its squared distance."""
    index, distance = [], []
    bias = (centres**2).sum(1)
    table = -2.0 * centres.T
    for block in places.split(max(1, (1 << 22) // len(centres))):
        least = torch.addmm(bias, block, table).min(dim=1)
        index.append(least.indices)
        distance.append(least.values + (block**2).sum(1))
    return torch.cat(index), torch.cat(distance)


def _k_means(
    places: torch.Tensor,
    index: NDArray[np.int64] | None,
    count: int,
    iterations: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], Floats]:
    """Cluster places [n, D]: the index of each, and the centres. Starts from `index` if given."""
    moved = places
    chosen = None
    if len(places) > _TOKENS_A_CODEWORD * count:
        chosen = np.sort(rng.choice(len(places), _TOKENS_A_CODEWORD * count, replace=False))
        moved = places[torch.from_numpy(chosen)]
    if index is None:
        centres = moved[torch.from_numpy(rng.choice(len(moved), count, replace=False))].clone()
    else:
        centres = torch.from_numpy(_means(places.numpy(), index, count))
    for _ in range(iterations):
        own, distance = _nearest(moved, centres)
        sizes = torch.bincount(own, minlength=count)
        sums = torch.zeros_like(centres).index_add_(0, own, moved)
        centres = sums / sizes.clamp_min(1)[:, None]
        unused = torch.nonzero(sizes == 0).flatten()
        # An unused centre goes to the tokens served worst: giants, and rare kinds of tokens.
        worst = torch.argsort(distance, descending=True, stable=True)[: len(unused)]
        centres[unused] = moved[worst]
    return _nearest(places, centres)[0].numpy(), centres.numpy()


def _without_gaps(index: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number the clusters that have tokens from 0 on, the most frequent first."""
    counts = np.bincount(index)
    order = np.argsort(-counts, kind="stable")
    rank = np.empty(len(counts), np.int64)
    rank[order] = np.arange(len(counts))
    return rank[index]


def _group_codewords(
    centred: torch.Tensor,
    index: NDArray[np.int64],
    groups: int,
    noise: float,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """Put each cluster into the group in whose basis its residuals cost the fewest bits."""
    count = int(index.max()) + 1
    if groups == 1 or count < 2 * groups:
        return np.zeros(count, np.uint8)
    centres = _means(centred.numpy(), index, count)
    # Every so many tokens will do: the bases need no more than those of the fit itself.
    stride = max(1, len(index) // (64 * groups * centred.shape[1]))
    some = index[::stride]
    residual = centred[::stride] - torch.from_numpy(centres[some])
    shared = _covariance(residual)
    variance, frame = _principal_components(shared)
    white = torch.from_numpy(centres) @ torch.from_numpy(frame / np.sqrt(variance + noise))
    group = _k_means(white[:, :_CLUSTER_DIMENSIONS], None, groups, 8, rng)[0]
    prior = _PRIOR_TOKENS * centred.shape[1]
    for _ in range(_GROUP_ITERATIONS):
        bits = np.zeros((groups, count))
        for number in range(groups):
            rows = residual[torch.from_numpy(np.flatnonzero(group[some] == number))]
            covariance = (len(rows) * _covariance(rows) + prior * shared) / (len(rows) + prior)
            variance, frame = _principal_components(covariance)
            level = torch.from_numpy(np.maximum(variance, noise))
            squares = (residual @ torch.from_numpy(frame)) ** 2
            cost = (squares / level).sum(1).numpy() + float(torch.log(level).sum())
            bits[number] = np.bincount(some, cost, minlength=count)
        group = bits.argmin(axis=0)
    _, group = np.unique(group, return_inverse=True)
    return group.astype(np.uint8)
