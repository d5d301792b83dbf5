"""Token ids in, pieces of text out, up to a stop string or the model's end.

A token costs the same however long the text is: only the last ids are decoded with it, from a place
on where they give the same characters as all of them do.
"""

from collections.abc import Collection, Sequence
from typing import Protocol

# What a tokenizer gives for bytes that are not a whole character yet: for them all, or for each.
_PARTIAL = "\N{REPLACEMENT CHARACTER}"
_MOST_PARTIAL = 3
# Ids that are decoded with the next one at least, and at most.
_LEAST_IDS, _MOST_IDS = 8, 32


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
        self._sure = 0  # characters of the ids' text that later ids do not change
        self._waiting = ""  # sure, and not given yet: it may begin a stop string
        self._partial = ""  # not sure
        self.ended = False

    def add(self, token: int) -> str:
        """The text that is sure once this token is there; it may be empty.

        Text that may yet turn out to begin a stop string, or to be part of a character, waits.
        """
        if token in self._vocabulary.end_ids:
            self.ended = True
            return ""
        self._ids.append(token)
        text = self._vocabulary.decode(self._ids)
        whole = self._waiting + text[self._sure :]
        found = [at for at in (whole.find(stop) for stop in self._stop) if at >= 0]
        if found:
            self.ended, self._waiting, self._partial = True, "", ""
            return whole[: min(found)]
        count, sure = len(self._ids), len(text)
        if text.endswith(_PARTIAL):
            sure = self._sure
            if count > 2 * _MOST_IDS:  # they never will be a character, but for the last of them
                whole_end = len(text) - _MOST_PARTIAL
                sure = max(sure, whole_end + len(text[whole_end:].rstrip(_PARTIAL)))
        self._waiting += text[self._sure : sure]
        self._partial, self._sure = text[sure:], max(self._sure, sure)
        if count > 2 * _MOST_IDS or (count > _MOST_IDS and not self._partial):
            self._forget(text)
        return self._take(len(self._waiting) - self._held_back())

    def rest(self) -> str:
        """What still waits, once no more tokens come."""
        self._waiting, self._partial = self._waiting + self._partial, ""
        return self._take(len(self._waiting))

    def _take(self, end: int) -> str:
        piece, self._waiting = self._waiting[:end], self._waiting[end:]
        return piece

    def _forget(self, text: str) -> None:
        """Keeps as few of the ids as give the end of the text by themselves, what is sure before.

        What they give at their start may differ: half a character, or a space less.
        """
        unsure = len(text) - self._sure
        for count in range(_LEAST_IDS, _MOST_IDS):
            end = self._vocabulary.decode(self._ids[-count:])
            if len(end) > unsure and text.endswith(end[-unsure - 1 :]):
                del self._ids[:-count]
                self._sure = len(end) - unsure
                return
        if len(self._ids) > 2 * _MOST_IDS:  # of no text, or of none that has such an end
            self._waiting += self._partial
            self._ids, self._sure, self._partial = [], 0, ""

    def _held_back(self) -> int:
        """Length of the longest end of the waiting text that begins a stop string."""
        return max(
            (
                length
                for text in self._stop
                for length in range(1, len(text))
                if self._waiting.endswith(text[:length])
            ),
            default=0,
        )
