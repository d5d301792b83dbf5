"""A DT-UFC profile: the centres of one model, and what SNR each network reaches with them.

Calibration features in; a folder of `config.json` and `profile.safetensors` out (1 KiB of centres).
"""

import functools
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FeatureError, ProfileError
from ..feature import Feature, as_array
from ..profile_files import CONFIG, TENSORS, damaged, read_profile_files
from .kmeans import CENTRES, fit_centres

FORMAT = 1
_MAX_FILE_BYTES = 1 << 20
_MAX_CHANNELS = 1 << 16


@dataclass(frozen=True, eq=False)
class DtUfcProfile:
    """What encoder and decoder of one model and split share.

    channels: the width of the features. centres: float32[256], sorted.
    snrs_db: measured in calibration, for each network by rising lambda. networks: the digest of
    the weights files that this holds for, in hexadecimal.
    """

    channels: int
    centres: NDArray[np.float32]
    snrs_db: tuple[float, ...]
    networks: str

    @classmethod
    def calibrate(
        cls,
        samples: Iterable[Feature],
        grid: tuple[int, int] | None = None,
        networks: Path | None = None,
        centres: NDArray[np.float32] | None = None,
    ) -> "DtUfcProfile":
        """Learn the centres by k-means on features [tokens, channels]; ten samples are enough.

        The SNRs are measured on the same samples, in the nearest-centre form. networks: a folder
        of weights files, by default the shipped ones. centres: use these float32[256] instead,
        for example even distances, as codecs of one task normalise.

        Raises:
            FeatureError: no samples, or samples that are no features of one width.
            ProfileError: the weights cannot be read, or the centres are no 256 sorted numbers.
        """
        from .quality import measure_snrs
        from .weights import FOLDER, load_networks

        arrays = [as_array(sample) for sample in samples]
        if not arrays:
            raise FeatureError("a profile is calibrated on at least one sample, there is none")
        channels = arrays[0].shape[1]
        if any(array.shape[1] != channels for array in arrays):
            raise FeatureError("the samples have different numbers of channels")
        if centres is None:
            centres = fit_centres(np.concatenate(arrays))
        loaded = load_networks(networks or FOLDER)
        checked = _checked_centres(np.asarray(centres, np.float32))
        snrs_db = measure_snrs(arrays, grid, checked, loaded)
        return cls(channels, checked, snrs_db, loaded.digest.hex())

    @functools.cached_property
    def digest(self) -> str:
        """The SHA-256, in hexadecimal, of all that encoding and decoding depend on."""
        digest = hashlib.sha256(json.dumps(self._settings(), sort_keys=True).encode())
        digest.update(self.centres.astype("<f4").tobytes())
        return digest.hexdigest()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json` and `profile.safetensors` into a folder, made when missing."""
        from safetensors.numpy import save_file

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = self._settings() | {"digest": self.digest}
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        save_file({"centres": self.centres}, folder / TENSORS)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "DtUfcProfile":
        """Read the folder that `save_pretrained` wrote.

        Raises:
            ProfileError: a file is missing or damaged, or its content has another digest.
        """
        folder = Path(folder)
        config, tensors = read_profile_files(folder, _MAX_FILE_BYTES)
        try:
            if config["format"] != FORMAT or config["mode"] != "dt-ufc":
                raise ValueError(f"format {config['format']!r}, mode {config['mode']!r}")
            channels, snrs_db = config["channels"], tuple(map(float, config["snrs_db"]))
            if type(channels) is not int or not 0 < channels <= _MAX_CHANNELS:
                raise ValueError(f"{channels!r} channels")
            if not np.isfinite(snrs_db).all():
                raise ValueError(f"the SNRs {snrs_db}")
            centres = _checked_centres(tensors["centres"])
            profile = cls(channels, centres, snrs_db, str(config["networks"]))
        except (LookupError, TypeError, ValueError) as error:
            raise damaged(folder, error) from error
        if profile.digest != config.get("digest"):
            raise ProfileError(
                f"{folder} has the digest {profile.digest[:16]}, its config says "
                f"{str(config.get('digest'))[:16]}"
            )
        return profile

    def _settings(self) -> dict[str, Any]:
        return {"format": FORMAT, "mode": "dt-ufc", "channels": self.channels} | {
            "snrs_db": list(self.snrs_db),
            "networks": self.networks,
        }


def _checked_centres(centres: NDArray[np.float32]) -> NDArray[np.float32]:
    if centres.shape != (CENTRES,) or centres.dtype != np.float32:
        raise ProfileError(f"centres are float32[{CENTRES}], not {centres.dtype}{centres.shape}")
    if not np.isfinite(centres).all() or (np.diff(centres) < 0).any():
        raise ProfileError("centres are finite and sorted, these are not")
    return centres
