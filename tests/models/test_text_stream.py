"""Pieces of text come as early as they are sure, and never run past a stop string."""

import random
from itertools import groupby

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


class Pieces:
    """A vocabulary of byte-level pieces, as of Llama 3: borders of tokens cut characters."""

    def __init__(self) -> None:
        self.pieces = [b"\0", *(bytes([byte]) for byte in range(1, 256))]
        self.pieces += [
            "é".encode(),
            "日本".encode()[:4],
            "語 ".encode()[1:],
            b" the",
            b"st",
            b"op",
        ]
        self.pieces += [bytes(pair) for pair in zip("日語".encode(), "本日".encode(), strict=True)]
        self.most_ids = 0

    end_ids = (0,)

    def decode(self, ids):
        self.most_ids = max(self.most_ids, len(ids))
        return b"".join(self.pieces[number] for number in ids).decode(errors="replace")

    def encode(self, text: str, rng: random.Random) -> list[int]:
        """Ids of the text, cut at random among the pieces that fit."""
        data, ids = text.encode(), []
        while data:
            ids.append(
                rng.choice(
                    [n for n, piece in enumerate(self.pieces) if piece and data.startswith(piece)]
                )
            )
            data = data[len(self.pieces[ids[-1]]) :]
        return ids


class Words(Pieces):
    """A vocabulary as of Llama 2: words with their space before, trimmed at the start; bytes that
    are no characters give a replacement each, and so does a whole run of them."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces = [b"", *(bytes([byte]) for byte in range(1, 256))]
        self.pieces += [b" the", b" stop", " 日本".encode(), b"", b" "]

    def decode(self, ids):
        self.most_ids = max(self.most_ids, len(ids))
        text = ""
        for is_byte, run in groupby(ids, lambda number: 128 <= number < 256):
            joined = b"".join(self.pieces[number] for number in run)
            try:
                text += joined.decode()
            except UnicodeDecodeError:
                assert is_byte
                text += "\N{REPLACEMENT CHARACTER}" * len(joined)
        return text.removeprefix(" ")


def by_whole_decoding(vocabulary: Pieces, ids: list[int], stop: list[str]) -> tuple[str, int]:
    """The text, and how many ids it takes, by decoding all ids with each of them."""
    for count in range(1, len(ids) + 1):
        text = vocabulary.decode(ids[:count])
        found = [at for at in (text.find(one) for one in stop) if at >= 0]
        if found:
            return text[: min(found)], count
    return vocabulary.decode(ids), len(ids)


WORDS = ["the", "日本語", "é", "st", "op", "stopp", "🙂🙃", "😀" * 12, "ß", " ", "日" * 15, "sto"]


@pytest.mark.parametrize("kind", [Pieces, Words])
@pytest.mark.parametrize("seed", range(3))
def test_a_long_text_is_that_of_whole_decoding_and_ends_at_the_same_stop(kind, seed):
    vocabulary, rng = kind(), random.Random(seed)
    text = " ".join(rng.choices(WORDS, k=60))
    ids = vocabulary.encode(text + " stop日 and more", rng)
    assert len(ids) > 300
    for stop in (
        [],
        ["stop日"],
        ["日s", "stop日 a"],
        ["no such text", "\N{SLIGHTLY SMILING FACE} st"],
    ):
        expected, count = by_whole_decoding(vocabulary, ids, stop)
        vocabulary.most_ids = 0
        out, pieces = TextStream(vocabulary, stop), list[str]()
        for token in ids:
            pieces.append(out.add(token))
            if out.ended:
                break
        assert ("".join(pieces) + out.rest(), len(pieces)) == (expected, count)
        assert out.ended == any(one in text + " stop日 and more" for one in stop)
        assert vocabulary.most_ids <= 65  # whatever the length


@pytest.mark.parametrize("seed", range(8))
def test_bytes_that_are_no_characters_give_what_whole_decoding_gives(seed):
    vocabulary, rng = Pieces(), random.Random(seed)
    ids = rng.choices(range(1, len(vocabulary.pieces)), k=300)
    if seed % 2:
        ids[50:150] = [0xE2] * 100  # each may begin a character
    out = TextStream(vocabulary)
    pieces = [out.add(token) for token in ids]
    assert vocabulary.most_ids <= 65
    assert "".join(pieces) + out.rest() == vocabulary.decode(ids)


def test_a_text_whose_tokens_all_end_amid_a_character_does_not_wait_for_its_end():
    vocabulary = Pieces()
    vocabulary.pieces.append("日日".encode()[1:4])  # from amid a character to amid the next
    out = TextStream(vocabulary)
    pieces = [out.add(token) for token in [0xE6, *[len(vocabulary.pieces) - 1] * 200]]
    assert len("".join(pieces)) > 100
    assert "".join(pieces) + out.rest() == "日" * 200 + "\N{REPLACEMENT CHARACTER}"
    assert vocabulary.most_ids <= 65
