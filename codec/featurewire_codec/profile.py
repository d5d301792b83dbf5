"""A profile: what is learned once from a model's features and shared before a session.

Calibration features in; the transform, the scale of each of its columns, the energy E and the rate
control out, kept as a folder of `config.json` and `profile.safetensors`.
"""

import functools
import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .block_dct import BlockDct
from .codebook import TokenCodebook
from .errors import ProfileError
from .feature import Feature
from .one_sided_transform import OneSided
from .one_sided_weights import WEIGHT_KINDS, weight_shapes, weight_tensors, weights_of
from .profile_files import CONFIG, TENSORS, damaged, read_profile_files
from .quantiser import MAX_STEP_EXPONENT, MIN_STEP_EXPONENT, Effort
from .task_weight import TaskWeight
from .transform import ChannelKlt, Identity, Transform

if TYPE_CHECKING:
    from .task_comparison import TaskError

FORMAT, ONE_SIDED_FORMAT = 2, 3  # the latter has tensors that no version 2 had
MAX_PROFILE_BYTES = 1 << 31
MAX_BLOCK = 16
MAX_GROUPS = 64
MAX_CODEWORDS = 1 << 16
_KINDS: dict[str, type] = {
    "offsets": np.int32,
    **WEIGHT_KINDS,
    "codewords": np.int8,
    "group": np.uint8,
    "counts": np.int64,
}
_OFFSET_LIMIT = 1024


@dataclass(frozen=True, eq=False)
class Profile:
    """What encoder and decoder of one model and split share.

    transform: see `transform`. energy: E, the zero of the SNR scale on the calibrated domain.
    offsets: int32[columns], the level of each column at a step of one.
    step_exponents int32[p], snr_db float64[p]: measured rate control, the SNR rising.
    report: what calibration measured, for people; no part of the digest.
    trellis_snr_db: float64[p], the SNRs with the effort "trellis"; empty when not measured.
    """

    transform: Transform
    energy: float
    offsets: NDArray[np.int32]
    step_exponents: NDArray[np.int32]
    snr_db: NDArray[np.float64]
    report: dict[str, Any]
    trellis_snr_db: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    @classmethod
    def calibrate(
        cls,
        samples: Iterable[Feature],
        grid: tuple[int, int] | None = None,
        metric: "Feature | None" = None,
        task_error: "TaskError | None" = None,
    ) -> "Profile":
        """Learn a profile from features [tokens, channels] of the domain it will be used in.

        16 to 32 tokens a channel are enough; mix the domains you expect. With `grid`, every sample
        has tokens = prefix + rows * columns, and transforms over the grid are tried too. The modes
        are compared on held-out samples by their coded size.

        `metric` is what a task minds: floats [channels, channels], symmetric and positive
        semi-definite, of any scale; the expected outer product of the gradients of the task's loss
        with respect to a token. Every mode is then tried weighted by it too (see `task_weight`),
        and kept so where held-out samples need fewer bits at the same error of the task. The SNR
        stays that of the features.

        `task_error(i, decoded)` measures that error: what the task gets wrong, in any unit that
        adds up, when sample number i is replaced by float32 [tokens, channels]. Without it, or with
        fewer than five samples, it is e^T metric e, summed over the errors e of the tokens.

        Raises:
            FeatureError: no samples, or samples that are no features of one width; a metric that is
                none for this width; a `task_error` without one, or that gives no number.
        Warns:
            CalibrationWarning: fewer than 8 tokens a channel; or held-out samples that cost much
                more than those fitted on.
        """
        from .calibration import calibrate

        return calibrate(samples, grid, metric, task_error)

    @property
    def channels(self) -> int:
        """The width of the features it is for."""
        return len(self.transform.mean)

    @functools.cached_property
    def digest(self) -> str:
        """The SHA-256, in hexadecimal, of all that encoding and decoding depend on."""
        digest = hashlib.sha256(json.dumps(self._settings(), sort_keys=True).encode())
        for name, array in sorted(self._tensors().items()):
            digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()

    def step_exponent(self, snr_db: float, effort: Effort = "fast") -> int:
        """Return the j that reaches an SNR on the calibrated domain, on average.

        Raises:
            ProfileError: nothing was measured with this effort.
        """
        measured = self.trellis_snr_db if effort == "trellis" else self.snr_db
        if not len(measured):
            raise ProfileError(f"the profile was calibrated without the effort {effort}")
        slope = 32 / (20 * math.log10(2.0))  # beyond what was measured: 6.02 dB an octave
        low, high = float(measured[0]), float(measured[-1])
        inside = float(np.interp(snr_db, measured, self.step_exponents))
        return round(inside - slope * (min(snr_db - low, 0.0) + max(snr_db - high, 0.0)))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json` and `profile.safetensors` into a folder, made when missing."""
        from safetensors.numpy import save_file

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = self._settings() | {"digest": self.digest, "report": self.report}
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        save_file(self._tensors(), folder / TENSORS)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "Profile":
        """Read the folder that `save_pretrained` wrote.

        Raises:
            ProfileError: a file is missing or damaged, or its content has another digest.
        """
        folder = Path(folder)
        config, tensors = read_profile_files(folder, MAX_PROFILE_BYTES)
        try:
            profile = _build(config, tensors)
        except (AttributeError, LookupError, TypeError, ValueError, OverflowError) as error:
            raise damaged(folder, error) from error
        if profile.digest != config.get("digest"):
            raise ProfileError(
                f"{folder} has the digest {profile.digest[:16]}, its config says "
                f"{str(config.get('digest'))[:16]}"
            )
        return profile

    def _settings(self) -> dict[str, Any]:
        block = self.transform.block if isinstance(self.transform, BlockDct) else None
        return {
            "format": _format_of(self.transform.mode),
            "mode": self.transform.mode,
            "block": block,
            "channels": self.channels,
            "energy": self.energy,
            "step_exponents": self.step_exponents.tolist(),
            "snr_db": self.snr_db.tolist(),
            **(
                {"trellis_snr_db": self.trellis_snr_db.tolist()} if len(self.trellis_snr_db) else {}
            ),
        }

    def _tensors(self) -> dict[str, NDArray[Any]]:
        tensors: dict[str, NDArray[Any]] = {"offsets": self.offsets}
        if isinstance(self.transform, OneSided):
            tensors |= weight_tensors(self.transform.weights)
        else:
            tensors["mean"] = self.transform.mean
        if isinstance(self.transform, ChannelKlt):
            tensors["matrix"] = self.transform.matrix
        if isinstance(self.transform, BlockDct):
            tensors["prefix_mean"] = self.transform.prefix_mean
            tensors["matrices"] = self.transform.matrices
        if isinstance(self.transform, TokenCodebook):
            names = "matrices", "spreads", "codewords", "scales", "group", "counts"
            tensors |= {name: getattr(self.transform, name) for name in names}
        if self.transform.weight is not None:
            tensors["weight"] = self.transform.weight.matrix
            tensors["weight_inverse"] = self.transform.weight.inverse
        return {name: np.ascontiguousarray(array) for name, array in tensors.items()}


def _format_of(mode: str) -> int:
    return ONE_SIDED_FORMAT if mode == OneSided.mode else FORMAT


def _build(config: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> Profile:
    """Make the profile that a config and tensors describe; ValueError says what is wrong."""
    mode, channels, block = config["mode"], config["channels"], config["block"]
    if config["format"] != (known := _format_of(mode)):
        raise ValueError(f"format {config['format']!r}, this version reads {known}")
    if type(channels) is not int:
        raise ValueError(f"channels {channels!r}, not a whole number")
    if mode != "dct" and block is not None:
        raise ValueError(f"a block of {block!r} in mode {mode!r}, not null")
    shapes: dict[str, tuple[tuple[int, ...], ...]] = {"mean": ((channels,),)}
    columns = channels
    if mode == "klt":
        shapes["matrix"] = ((channels, channels),)
    elif mode == "dct":
        if type(block) is not int or not 2 <= block <= MAX_BLOCK:
            raise ValueError(f"a block of {block!r}, not 2 to {MAX_BLOCK}")
        shapes["prefix_mean"] = ((channels,),)
        shapes["matrices"] = tuple((count, channels, channels) for count in (1, block * block))
        columns = (block * block + 1) * channels
    elif mode == "codebook":
        groups, words = len(tensors["matrices"]), len(tensors["codewords"])
        if not (1 <= groups <= MAX_GROUPS and 1 <= words <= MAX_CODEWORDS):
            raise ValueError(f"{groups} groups of {words} codewords")
        shapes |= {"matrices": ((groups, channels, channels),), "codewords": ((words, channels),)}
        shapes |= {"spreads": ((groups, channels),), "scales": ((groups, channels),)}
        shapes |= {"group": ((words,),), "counts": ((words,),)}
        columns = groups * channels
    elif mode == "one-sided":
        shapes = weight_shapes(channels, len(tensors["bounds"]))
    elif mode != "identity":
        raise ValueError(f"mode {mode!r}, not identity, klt, dct, codebook or one-sided")
    shapes["offsets"] = ((columns,),)
    if mode in ("klt", "dct", "codebook") and "weight" in tensors:
        shapes |= dict.fromkeys(("weight", "weight_inverse"), ((channels, channels),))
    if set(tensors) != set(shapes):
        raise ValueError(f"tensors {sorted(tensors)}, not {sorted(shapes)}")
    for name, allowed in shapes.items():
        kind = _KINDS.get(name, np.float32)
        array = tensors[name]
        if array.shape not in allowed or array.dtype != kind:
            raise ValueError(f"{name} is {array.dtype}{array.shape}, not {kind.__name__}{allowed}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} is not finite")
    # not by abs: that of the least int32 is negative
    offsets = tensors["offsets"]
    if offsets.min(initial=0) < -_OFFSET_LIMIT or offsets.max(initial=0) > _OFFSET_LIMIT:
        raise ValueError(f"offsets beyond {_OFFSET_LIMIT}")
    weight = None
    if "weight" in tensors:
        weight = TaskWeight(tensors["weight"], tensors["weight_inverse"])
        weight.check()
    transform: Transform
    if mode == "one-sided":
        transform = OneSided(weights_of(tensors))
    elif mode == "identity":
        transform = Identity(tensors["mean"])
    elif mode == "klt":
        transform = ChannelKlt(tensors["mean"], tensors["matrix"], weight)
    elif mode == "dct":
        arrays = tensors["mean"], tensors["prefix_mean"], tensors["matrices"]
        transform = BlockDct(*arrays, block=block, weight=weight)
    else:
        transform = _build_codebook(tensors, weight)
    steps = np.array(config["step_exponents"], np.int32)
    curves = [np.array(config.get(name, []), np.float64) for name in ("snr_db", "trellis_snr_db")]
    snr_db, trellis_snr_db = curves
    if not (steps.ndim == 1 and len(steps) >= 1 and snr_db.shape == steps.shape):
        raise ValueError("the rate control has no steps, or not one SNR for each")
    if trellis_snr_db.shape not in (steps.shape, (0,)):
        raise ValueError("the rate control of the trellis has not one SNR for each step")
    if not (steps.min() >= MIN_STEP_EXPONENT and steps.max() <= MAX_STEP_EXPONENT):
        raise ValueError("a step of the rate control is out of range")
    if not (np.diff(steps) < 0).all():
        raise ValueError("the steps of the rate control do not fall")
    if not all(np.isfinite(curve).all() and (np.diff(curve) > 0).all() for curve in curves):
        raise ValueError("the SNRs of the rate control are not finite and rising")
    energy = float(config["energy"])
    if not 0.0 < energy < float("inf"):
        raise ValueError(f"an energy of {energy}")
    report = dict(config["report"])
    return Profile(transform, energy, tensors["offsets"], steps, snr_db, report, trellis_snr_db)


def _build_codebook(tensors: dict[str, NDArray[Any]], weight: TaskWeight | None) -> TokenCodebook:
    groups, counts = len(tensors["matrices"]), tensors["counts"]
    if tensors["group"].max() >= groups:
        raise ValueError(f"a codeword of group {tensors['group'].max()}, there are {groups}")
    if not (counts.min() >= 0 and counts.max() < 1 << 40 and counts.any()):
        raise ValueError("the codewords' counts are out of range")
    if not tensors["spreads"].min() > 0:
        raise ValueError("a spread is not above zero")
    if not tensors["scales"].min() >= 0:
        raise ValueError("a scale is below zero")
    names = "mean", "matrices", "spreads", "codewords", "scales", "group", "counts"
    return TokenCodebook(**{name: tensors[name] for name in names}, weight=weight)
