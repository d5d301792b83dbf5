"""The golden bitstreams decode to the exact symbols they were made from; bytes never change."""

import re
from pathlib import Path

import numpy as np
import pytest
from featurewire_codec import FeatureCodec, Profile
from featurewire_codec.bitstream import read_chunk, read_chunk_length, read_header
from featurewire_codec.coefficients import decode_indices
from featurewire_codec.transform import Geometry, plain_transform
from safetensors.numpy import load_file

GOLDEN = Path(__file__).parent / "golden"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.fw"))
SPECIFICATION = Path(__file__).parents[2] / "codec" / "BITSTREAM.md"


def profile_of(name: str) -> Profile | None:
    folder = GOLDEN / f"{name}.profile"
    return Profile.from_pretrained(folder) if folder.exists() else None


@pytest.mark.parametrize("name", NAMES)
def test_golden_bytes_decode_to_their_exact_indices(name):
    data, profile = (GOLDEN / f"{name}.fw").read_bytes(), profile_of(name)
    header, place = read_header(data)
    head, number = data[:place], 0
    expected = load_file(GOLDEN / f"{name}.indices.safetensors")
    geometry = Geometry(header.tokens, header.channels, header.grid)
    transform = profile.transform if profile else plain_transform(header.channels)
    while place < len(data):
        length = read_chunk_length(data[place:], header)
        chunk = read_chunk(data[place : place + length], header, head)
        layout = transform.layout(geometry, chunk.tokens)
        offsets = profile.offsets if profile else None
        indices, _ = decode_indices(chunk, layout, offsets, header.step_exponent)
        np.testing.assert_array_equal(indices, expected[f"chunk{number}"])
        place, number = place + length, number + 1
    assert number == len(expected)


def test_values_of_the_worked_example_are_exact():
    values = FeatureCodec().decode((GOLDEN / "worked.fw").read_bytes())
    expected = np.float32([[260, 0, -505], [0, 6386, -260]]) / 256
    np.testing.assert_array_equal(values.numpy(), expected)


def test_values_of_an_identity_profile_are_within_half_a_step_of_their_indices():
    profile = profile_of("identity")
    values = FeatureCodec(profile).decode((GOLDEN / "identity.fw").read_bytes()).numpy()
    indices = load_file(GOLDEN / "identity.indices.safetensors")["chunk0"].reshape(4, -1)
    steps = (values.astype(np.float64) - profile.transform.mean) / 2
    rounding = np.abs(indices.astype(np.float64)) * 2**-23
    assert (np.abs(steps - indices) <= 0.5 + rounding).all()


def test_the_specification_works_the_golden_example():
    listed = re.search(r"<!-- worked example -->\n```\n(.*?)```", SPECIFICATION.read_text(), re.S)
    rows = [line.split("  ")[0] for line in listed[1].splitlines()]
    assert bytes.fromhex("".join(rows)) == (GOLDEN / "worked.fw").read_bytes()


def test_make_golden_makes_the_committed_bytes(tmp_path, monkeypatch):
    import importlib.util

    spec = importlib.util.spec_from_file_location("make_golden", GOLDEN.parent / "make_golden.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "GOLDEN", tmp_path)
    for make in (module.make_worked, module.make_plain, module.make_identity, module.make_dct):
        make()
    for name in NAMES:
        assert (tmp_path / f"{name}.fw").read_bytes() == (GOLDEN / f"{name}.fw").read_bytes()
