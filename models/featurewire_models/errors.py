"""What can go wrong with a split model.

    ModelError
    ├── SourceError        no such bundled model, local folder or hub model; another revision
    ├── ArchitectureError  a folder whose configuration names no supported architecture
    ├── WeightsError       a missing shard, a missing tensor, a tensor of another shape
    ├── SplitError         a split point that the model does not have
    ├── TaskError          a task that the model does not have
    ├── PlacementError     an unknown dtype, a device that is not there
    └── InputError         a prompt, an image or tensors that the model cannot take

Each message is one plain sentence: what was found, and what is allowed.
"""


def one_line(error: BaseException) -> str:
    """What an error of a library says, as part of a sentence; its kind where it says nothing."""
    said = " ".join(str(error).split())[:300].rstrip(".")
    return said or type(error).__name__


class ModelError(Exception):
    """Any failure of this package that a person can put right."""


class SourceError(ModelError):
    """The name leads to no model folder, or to one of another revision."""


class ArchitectureError(ModelError):
    """The folder's configuration is absent, damaged or of no supported architecture."""


class WeightsError(ModelError):
    """The weights in the folder are absent, damaged or not those of its configuration."""


class SplitError(ModelError):
    """The split point is not one of the model's."""


class TaskError(ModelError):
    """The task is not one of the model's, or a family lacks what was asked of it."""


class PlacementError(ModelError):
    """The dtype or the device cannot be used."""


class InputError(ModelError):
    """The inputs or the features are not what the model takes."""
