"""Synthetic features with what real ones have: correlated channels, uneven tokens, giants."""

import numpy as np


def make_tokens(seed: int, tokens: int, channels: int = 32, giants: bool = True) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(0).normal(size=(channels, channels))
    scales = np.geomspace(3, 0.05, channels)
    features = rng.laplace(size=(tokens, channels)) * scales @ np.linalg.qr(mixing)[0]
    features *= np.exp(rng.normal(0, 0.4, (tokens, 1)))
    if giants:
        features[0, 3] = 900.0
    return (features + np.arange(channels) / 8).astype(np.float32)


def make_grid(seed: int, rows: int, cols: int, channels: int = 6, prefix: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft2(rng.normal(size=(rows, cols, channels)), axes=(0, 1))
    smooth = 1 / (
        1 + 25 * np.hypot(*np.meshgrid(*map(np.fft.fftfreq, (rows, cols)), indexing="ij"))
    )
    plane = np.fft.irfft2(spectrum * smooth[:, : cols // 2 + 1, None], (rows, cols), axes=(0, 1))
    tokens = plane.reshape(-1, channels) * np.geomspace(4, 0.5, channels)
    return np.concatenate([rng.normal(size=(prefix, channels)) * 9, tokens]).astype(np.float32)


def make_words(seed: int, tokens: int, channels: int = 32) -> np.ndarray:
    """Tokens that cluster around a few means, as hidden states of text do."""
    rng = np.random.default_rng(seed)
    means = 4 * np.random.default_rng(1).normal(size=(20, channels))
    return (means[rng.integers(0, 20, tokens)] + make_tokens(seed, tokens, channels)).astype("f4")


def make_one_sided(seed, rows, columns, channels=12):
    """Rectified mixtures of fewer smooth planes."""
    planes = make_grid(seed, rows, columns, channels // 2).reshape(rows, columns, -1)
    for axis in (0, 1, 0, 1):
        planes = np.roll(planes, 1, axis) + planes
    mixing = np.random.default_rng(0).normal(size=(channels // 2, channels)) / 4
    noise = np.random.default_rng(seed).normal(size=(rows * columns, channels)) * 0.1
    return np.maximum(planes.reshape(rows * columns, -1) @ mixing + noise, 0).astype(np.float32)
