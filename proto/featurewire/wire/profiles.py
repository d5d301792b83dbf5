"""The profiles of every coded tensor at one split point of one task: a folder <-> a ProfileSet.

FOLDER/set.json              {"model", "revision", "split", "task"}
FOLDER/<tensor>/config.json, profile.safetensors
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from featurewire_codec import Profile, ProfileError

SET_FILE = "set.json"
PROFILE_FILES = ("config.json", "profile.safetensors")


@dataclass(frozen=True)
class Origin:
    """What a set of profiles is of."""

    model: str
    revision: str
    split: str
    task: str


@dataclass(frozen=True)
class ProfileSet:
    """What one split point's features are coded with.

    Attributes:
        origin: what the profiles were learned from.
        profiles: a profile for each tensor's name; empty: self-describing bitstreams.
        folder: where the set lies, if it lies anywhere.
    """

    origin: Origin
    profiles: dict[str, Profile] = field(default_factory=dict)
    folder: Path | None = None

    @property
    def digest(self) -> str:
        """SHA-256, in hex, over the names and digests of the profiles; "" of none."""
        if not self.profiles:
            return ""
        lines = [f"{name} {self.profiles[name].digest}\n" for name in sorted(self.profiles)]
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @classmethod
    def from_pretrained(cls, folder: Path) -> "ProfileSet":
        """Reads a set.

        Raises:
            ProfileError: the folder holds no set, or a profile in it is damaged.
        """
        try:
            origin = Origin(**json.loads((folder / SET_FILE).read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise ProfileError(
                f"{folder} is no set of profiles: {SET_FILE} is missing or damaged;"
                " `featurewire calibrate` makes one"
            ) from error
        folders = sorted(path.parent for path in folder.glob(f"*/{PROFILE_FILES[0]}"))
        profiles = {path.name: Profile.from_pretrained(path) for path in folders}
        return cls(origin, profiles, folder)

    def save_pretrained(self, folder: Path) -> None:
        """Writes the set; the folder is made."""
        for name, profile in self.profiles.items():
            profile.save_pretrained(folder / name)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SET_FILE).write_text(json.dumps(asdict(self.origin), indent=2) + "\n")

    def check(self, wanted: Origin) -> None:
        """Holds the set against what it is to code: a model of one revision may have two names.

        Raises:
            ProfileError: it was learned from something else; the message says both.
        """
        found = asdict(self.origin)
        if found["revision"] == wanted.revision:
            found["model"] = wanted.model
        for key, value in asdict(wanted).items():
            if found[key] != value:
                raise ProfileError(
                    f"the profiles in {self.folder} were learned at {key} {found[key]!r},"
                    f" and {value!r} is wanted: `featurewire calibrate` learns them anew"
                )
