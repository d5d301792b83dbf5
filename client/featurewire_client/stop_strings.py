"""The strings that end a generation, as a message can hold them."""

from collections.abc import Sequence

from featurewire_models.batch import unencodable

from featurewire_client.errors import SettingError


def stop_strings(stop: str | Sequence[str]) -> list[str]:
    """The strings of one or several.

    Raises:
        SettingError: UTF-8, and so a message, does not hold one.
    """
    strings = [stop] if isinstance(stop, str) else list(stop)
    for text in strings:
        if (found := unencodable(text)) is not None:
            raise SettingError(f"stop is {text!a}, which UTF-8 cannot hold: {found}")
    return strings
