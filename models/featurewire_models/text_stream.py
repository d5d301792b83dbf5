"""Token ids in, pieces of text out, up to a stop string or the model's end."""

from collections.abc import Collection, Sequence
from typing import Protocol

# What a tokenizer gives for bytes that are not a whole character yet.
_PARTIAL = "\N{REPLACEMENT CHARACTER}"


class Vocabulary(Protocol):
    """What a text stream needs of a tokenizer."""

    @property
    def end_ids(self) -> Collection[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...


class TextStream:
    """Turns one generation's ids into text as they come.

    Attributes:
        ended: the model ended the text, or a stop string came.
    """

    def __init__(self, vocabulary: Vocabulary, stop: Sequence[str] = ()) -> None:
        self._vocabulary = vocabulary
        self._stop = tuple(text for text in stop if text)
        self._ids: list[int] = []
        self._given = 0
        self._text = ""
        self.ended = False

    def add(self, token: int) -> str:
        """The text that is sure once this token is there; it may be empty.

        Text that may yet turn out to begin a stop string, or to be part of a character, waits.
        """
        if token in self._vocabulary.end_ids:
            self.ended = True
            return ""
        self._ids.append(token)
        self._text = self._vocabulary.decode(self._ids)
        found = [at for at in (self._text.find(text) for text in self._stop) if at >= 0]
        if found:
            self.ended = True
            self._text = self._text[: min(found)]
            return self._take(len(self._text))
        if self._text.endswith(_PARTIAL):
            return ""
        return self._take(len(self._text) - self._held_back())

    def rest(self) -> str:
        """What still waits, once no more tokens come."""
        return self._take(len(self._text))

    def _take(self, end: int) -> str:
        piece = self._text[self._given : end]
        self._given = max(self._given, end)
        return piece

    def _held_back(self) -> int:
        """Length of the longest end of the text that begins a stop string."""
        return max(
            (
                length
                for text in self._stop
                for length in range(1, len(text))
                if self._text.endswith(text[:length])
            ),
            default=0,
        )
