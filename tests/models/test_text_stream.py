"""Pieces of text come as early as they are sure, and never run past a stop string."""

import pytest
from featurewire_models.text_stream import TextStream


class Bytes:
    """A vocabulary whose ids are UTF-8 bytes; 0 ends the text."""

    end_ids = (0,)

    def decode(self, ids):
        return bytes(ids).decode(errors="replace")


def stream(text: str, stop=()) -> list[str]:
    out = TextStream(Bytes(), stop)
    pieces = []
    for token in text.encode():
        if out.ended:
            break
        pieces.append(out.add(token))
    return [*pieces, out.rest()]


def test_pieces_join_to_the_text():
    assert stream("hello") == ["h", "e", "l", "l", "o", ""]


def test_a_character_waits_until_it_is_whole():
    assert stream("né") == ["n", "", "é", ""]


def test_the_text_ends_before_a_stop_string():
    assert "".join(stream("one two three", stop=["two"])) == "one "


def test_the_first_of_several_stop_strings_counts():
    assert "".join(stream("a b c", stop=["c", "b"])) == "a "


def test_text_that_may_begin_a_stop_string_waits_and_is_not_lost():
    assert stream("abx", stop=["bc"]) == ["a", "", "bx", ""]
    assert "".join(stream("ab", stop=["bc"])) == "ab"


def test_the_models_own_end_ends_the_text():
    out = TextStream(Bytes())
    assert out.add(ord("a")) == "a"
    assert out.add(0) == ""
    assert out.ended


@pytest.mark.parametrize("stop", [(), ("",)])
def test_an_empty_stop_string_stops_nothing(stop):
    assert "".join(stream("abc", stop=stop)) == "abc"
