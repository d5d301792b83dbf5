"""The independent decoder against the goldens: it knows the document, not the product."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from independent_decoder import decode
from safetensors.numpy import load_file

HERE = Path(__file__).parent
GOLDEN = HERE / "golden"
CODEC = HERE / "../../codec/featurewire_codec"


def load_tables(name, prefix):
    tables = load_file(CODEC / name)
    return {name.removeprefix(prefix): table.astype(int) for name, table in tables.items()}


TABLES = load_tables("tables.safetensors", "tables.")
TABLES["one_sided"] = load_tables("one_sided_tables.safetensors", "parameters.")
GOOD = json.loads((GOLDEN / "index.json").read_text())
WRONG = json.loads((GOLDEN / "bad" / "index.json").read_text())


@np.errstate(all="ignore")
def run(path, about):
    """Decode a file, or the messages of a session: all chunks, all values, and a step for each."""
    config, tensors = load_profile(about["profile"]) if about["profile"] else ({}, {})
    book = [] if about.get("adaptive") and config["mode"] == "codebook" else None
    shape, grid = about.get("shape"), about.get("grid") or ()
    data, start, chunks, values, steps = path.read_bytes(), 0, [], [], []
    sizes = about.get("bytes", [len(path.read_bytes())])
    for i, size in enumerate(sizes):
        message, start = data[start : start + size], start + size
        shape = (about["tokens"][i], shape[1]) if "tokens" in about else shape
        more, x = decode(message, TABLES, (config, tensors), shape, grid, book)
        chunks, values = chunks + more, [*values, x]
        steps.append(np.full(x.shape, 2.0 ** (exponent(message, about) / 32)))
    return chunks, np.concatenate(values), np.concatenate(steps)


def load_profile(name):
    """Section 10: the config and the tensors, which must have their digest."""
    folder = GOLDEN / f"{name}.profile"
    config = json.loads((folder / "config.json").read_text())
    tensors = load_file(folder / "profile.safetensors")
    digested = {key: config[key] for key in config.keys() - {"digest", "report"}}
    digest = hashlib.sha256(json.dumps(digested, sort_keys=True).encode("ascii"))
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype.str} {tensor.shape}".encode() + tensor.tobytes())
    known = 3 if config["mode"] == "one-sided" else 2
    if (config["format"], config["digest"]) != (known, digest.hexdigest()):
        raise ValueError(folder)
    return config, tensors


def integers(words, rows, columns, k, panel, row, f):
    """Return a chunk's integers by name; panels with their rows and columns in order."""
    rows = np.resize(rows, len(np.unique(row)))  # those that are not sent are zero
    found = {"codewords": words, "row_exponents": rows, "column_exponents": columns}
    if not len(panel):  # a one-sided chunk has none
        found["panel0"] = k
    for number, p in enumerate(np.unique(panel)):
        at = np.flatnonzero(panel == p)
        at = at[np.lexsort((f[at], row[at]))]
        found[f"panel{number}"] = k[at].reshape(len(np.unique(row[at])), -1)
    return found


@pytest.mark.parametrize("name", GOOD)
def test_golden(name):
    chunks, values, step = run(GOLDEN / f"{name}.fw", GOOD[name])
    expected = load_file(GOLDEN / f"{name}.safetensors")
    each = enumerate(integers(*chunk) for chunk in chunks)
    found = {f"chunk{i}.{key}": x for i, chunk in each for key, x in chunk.items()}
    assert {*found, "values"} == set(expected)
    for key, x in found.items():
        assert np.array_equal(x, expected[key]), key
    assert values.shape == expected["values"].shape
    bound = np.maximum(1e-4 * step, abs(expected["values"]) * 2.0**-22)
    assert (abs(values.astype(float) - expected["values"]) <= bound).all()


def exponent(data, about):
    """The step exponent, read apart from the decoder."""
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
    with pytest.raises(AssertionError):
        run(GOLDEN / "bad" / f"{name}.fw", WRONG[name])
