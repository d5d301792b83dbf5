"""The independent decoder against the goldens: it knows the document, not the product."""

import json
from pathlib import Path

import numpy as np
import pytest
from independent_book import Book
from independent_decoder import Bad, decode
from safetensors.numpy import load_file

HERE = Path(__file__).parent
GOLDEN = HERE / "golden"
TABLES = HERE / "../../codec/featurewire_codec/tables.safetensors"
if not TABLES.exists():  # where it was written
    TABLES = HERE / "tables.safetensors"
GOOD = json.loads((GOLDEN / "index.json").read_text())
WRONG = json.loads((GOLDEN / "bad" / "index.json").read_text())


def run(path, about):
    folder = GOLDEN / f"{about['profile']}.profile" if about["profile"] else None
    session = None
    if about["framing"] == "session":
        book = Book(folder) if about["adaptive"] else None
        session = {"shape": about["shape"], "grid": about["grid"], "book": book}
    return decode(path.read_bytes(), folder, session, TABLES)


@pytest.mark.parametrize("name", GOOD)
def test_golden(name):
    path = GOLDEN / f"{name}.fw"
    chunks, values = run(path, GOOD[name])
    expected = load_file(GOLDEN / f"{name}.safetensors")
    step = 2.0 ** (exponent(path, GOOD[name]) / 32)
    found = {f"chunk{i}.{key}": x for i, chunk in enumerate(chunks) for key, x in chunk.items()}
    assert {*found, "values"} == set(expected)
    for key, x in found.items():
        assert np.array_equal(x, expected[key]), key
    assert values.shape == expected["values"].shape
    bound = np.maximum(1e-4 * step, abs(expected["values"]) * 2.0**-22)
    assert (abs(values.astype(float) - expected["values"]) <= bound).all()


def exponent(path, about):
    """The step exponent, read apart from the decoder."""
    data = path.read_bytes()
    if about["framing"] == "session":
        return (int.from_bytes(data[:2], "little") & 4095) - 2048
    at, numbers = 4, []
    for _ in range(3):
        value = shift = 0
        while True:
            value, shift, at = value | (data[at] & 127) << shift, shift + 7, at + 1
            if data[at - 1] < 128:
                break
        numbers.append(value)
    return -(numbers[2] >> 1) - 1 if numbers[2] & 1 else numbers[2] >> 1


@pytest.mark.parametrize("name", WRONG)
def test_bad(name):
    with pytest.raises(Bad):
        run(GOLDEN / "bad" / f"{name}.fw", WRONG[name])
