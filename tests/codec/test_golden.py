"""The golden bitstreams: they decode to the integers they were made from, and bytes never change.

Those in golden/bad each break one rule, and each raises the one error that its index names.
"""

import importlib
import json
import re
from itertools import accumulate
from pathlib import Path

import featurewire_codec
import golden_cases
import numpy as np
import pytest
from featurewire_codec import CodecError, FeatureCodec, Profile, SessionCodec, inspect, one_sided
from featurewire_codec.bitstream import (
    VERSION,
    Header,
    check_of,
    max_body_bytes,
    read_body,
    read_header,
    write_header,
)
from featurewire_codec.coefficients import decode_symbols
from featurewire_codec.one_sided import walk
from featurewire_codec.one_sided_chunk import decode_walk
from featurewire_codec.one_sided_tables import load_one_sided
from featurewire_codec.one_sided_transform import OneSided
from featurewire_codec.panels import from_symbols
from featurewire_codec.quantiser import step_size
from featurewire_codec.session_framing import chunk_body, read_lead
from featurewire_codec.span import Coding, Quantised
from featurewire_codec.tables import load_tables
from featurewire_codec.transform import Geometry, plain_transform
from featurewire_codec.trellis import TrellisSymbols, to_indices
from golden_cases import digest_of
from safetensors.numpy import load_file
from worked_example import SPECIFICATION, explain, put

GOLDEN = Path(__file__).parent / "golden"
GOOD = json.loads((GOLDEN / "index.json").read_text())
BAD = json.loads((GOLDEN / "bad" / "index.json").read_text())


def profile_of(facts) -> Profile | None:
    folder = facts["profile"] and GOLDEN / f"{facts['profile']}.profile"
    return Profile.from_pretrained(folder) if folder else None


def messages(data: bytes, facts):
    """Cut a session's bytes into its messages: each, and the tokens it has."""
    sizes = facts.get("bytes", [len(data)])
    ends = list(accumulate(sizes))
    parts = [data[end - size : end] for size, end in zip(sizes, ends, strict=True)]
    shape = facts.get("shape") or (None, None)
    return list(zip(parts, facts.get("tokens", [shape[0]]), strict=True))


def decode(data: bytes, facts) -> np.ndarray:
    codec = FeatureCodec(profile_of(facts), framing=facts["framing"])
    if facts.get("adaptive"):
        codec = SessionCodec(profile_of(facts))
    shape, grid = facts.get("shape"), facts.get("grid")
    values = [
        codec.decode(message, shape=shape and (tokens, shape[1]), grid=grid and tuple(grid))
        for message, tokens in messages(data, facts)
    ]
    return np.concatenate(values)


def indices_of(symbols, panels) -> list[np.ndarray]:
    """Return the indices [rows, columns in coding order] of each panel."""
    radii = load_tables().radii
    if not isinstance(symbols, TrellisSymbols):
        return [indices for indices, _ in from_symbols(symbols, panels, radii)]
    flat, parts = to_indices(symbols, radii), []
    for ladder, shifts in panels:
        own, flat = np.split(flat, [len(shifts) * ladder.columns])
        parts.append(own.reshape(ladder.columns, len(shifts)).T)
    return parts


def bodies(data: bytes, facts):
    """Yield the header and the body of each chunk."""
    if facts["framing"] == "session":
        profile, channels, grid = profile_of(facts), facts["shape"][1], facts["grid"]
        digest, own_energy = (digest_of(profile), None) if profile else (None, 1.0)
        for message, tokens in messages(data, facts):
            agreed = Header(
                tokens,
                channels,
                0,
                grid and tuple(grid),
                digest,
                own_energy,
                adaptive=facts["adaptive"],
            )
            header, form = read_lead(message, agreed)
            place = 2
            while place < len(message):
                body, taken = chunk_body(message[place:], form, header, max_body_bytes(header))
                yield header, body
                place += taken
        return
    header, place = read_header(data)
    for chunk in inspect(data).chunks:
        length_bytes = next(n for n in (1, 2, 3) if data[place + n - 1] < 128)
        yield header, data[place + length_bytes : place + chunk.bytes - 4]
        place += chunk.bytes


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("name", GOOD)
def test_golden_bytes_decode_to_their_exact_integers_and_values(name, monkeypatch, tmp_path):
    monkeypatch.setattr(golden_cases, "GOLDEN", tmp_path)
    data, facts = (GOLDEN / f"{name}.fw").read_bytes(), GOOD[name]
    expected, profile = load_file(GOLDEN / f"{name}.safetensors"), profile_of(facts)
    coding = Coding(profile, bool(facts.get("adaptive"))) if profile else None
    for number, (header, body) in enumerate(bodies(data, facts)):
        chunk, fields = read_body(body, header)
        if chunk.fields.reset:
            coding.reset()
        updates = coding.updates if coding and not chunk.fields.plain else 0
        check = check_of(fields, write_header(header), updates)
        transform, offsets, table = plain_transform(header.channels), None, None
        if not chunk.fields.plain:
            transform, offsets, table = coding.transform, coding.offsets, coding.index_table
        geometry = Geometry(header.tokens, header.channels, header.grid)
        own = f"chunk{number}"
        if isinstance(transform, OneSided):
            offsets, tokens = coding.offsets.offsets, chunk.fields.tokens
            walked = transform.walk(geometry, tokens, offsets, header.step_exponent)
            indices, _ = decode_walk(chunk, check, walked, header.midpoint)
            np.testing.assert_array_equal(indices, expected[f"{own}.panel0"])
            continue
        symbols, side, panels, _ = decode_symbols(
            chunk,
            check,
            lambda index, t=transform, g=geometry, c=chunk: t.layout(g, c.fields.tokens, index),
            offsets,
            table,
            header,
        )
        np.testing.assert_array_equal(side.index, expected[f"{own}.codewords"])
        np.testing.assert_array_equal(side.row_exponents, expected[f"{own}.row_exponents"])
        np.testing.assert_array_equal(side.column_exponents, expected[f"{own}.column_exponents"])
        decoded = indices_of(symbols, panels)
        for place, (indices, (ladder, _)) in enumerate(zip(decoded, panels, strict=True)):
            wanted = ladder.in_order(expected[f"{own}.panel{place}"])
            np.testing.assert_array_equal(indices, wanted)
        if not chunk.fields.plain:
            coding.learn(Quantised(symbols, side, panels), header.step_exponent)
    values = decode(data, facts)
    step = step_size(header.step_exponent)
    np.testing.assert_allclose(values, expected["values"], rtol=1e-6, atol=1e-4 * step)


def test_values_of_the_worked_example_are_exact():
    values = decode((GOLDEN / "worked.fw").read_bytes(), GOOD["worked"])
    shifts = [int(shift) for shift in load_tables().centroids[48]]
    expected = [[256 + shifts[1], 0, -512 - shifts[2]], [0, 25 * 256 + shifts[3], -256 - shifts[1]]]
    np.testing.assert_array_equal(values, np.float32(expected) / 256)


def test_midpoint_values_are_whole_steps():
    expected = load_file(GOLDEN / "midpoint.safetensors")
    values = decode((GOLDEN / "midpoint.fw").read_bytes(), GOOD["midpoint"])
    wanted = expected["chunk0.panel0"].astype(np.float32) * np.float32(2**0.5)
    np.testing.assert_array_equal(values, wanted)


def test_the_identity_has_every_group_and_escapes_of_every_size():
    profile = profile_of(GOOD["identity"])
    header = read_header((GOLDEN / "identity.fw").read_bytes())[0]
    rows = load_file(GOLDEN / "identity.safetensors")["chunk0.row_exponents"]
    level = profile.offsets + rows[:, None] - (header.step_exponent >> 3)
    assert set(np.clip(level, 0, 159).ravel()) == set(range(160))
    assert level.min() < 0
    assert level.max() > 159


def test_the_one_sided_golden_has_raw_bits_and_escapes_at_both_ends():
    profile, seen = profile_of(GOOD["one_sided"]), set()
    radii = profile.transform.weights.tables.radii
    for header, body in bodies((GOLDEN / "one_sided.fw").read_bytes(), GOOD["one_sided"]):
        chunk, fields = read_body(body, header)
        if chunk.fields.plain:
            seen.add("plain")
            continue
        geometry = Geometry(header.tokens, header.channels, header.grid)
        place = chunk.fields.tokens, profile.offsets, header.step_exponent
        walked = profile.transform.walk(geometry, *place)
        check = check_of(fields, write_header(header))
        indices, _ = decode_walk(chunk, check, walked, midpoint=False)

        def fill(one, channels, how, indices=indices, walked=walked):
            own = indices[one.tokens][:, walked.weights.order[channels]].astype(np.int32)
            place = (own >> how.low_bits) - how.base
            found = {
                "raw": how.low_bits,
                "base": how.base,
                "high": place >= radii[how.classes],
                "low": (place <= 0) & (how.base > 0),
            }
            seen.update(name for name, where in found.items() if where.any())
            return own

        walk(*walked, fill, load_one_sided()[0], one_sided)
    assert seen == {"plain", "raw", "base", "high", "low"}


@pytest.mark.parametrize(
    ("name", "lanes"), [("plain", 1), ("two_lanes", 2), ("lanes", 4), ("lane_limits", (4, 2, 2, 1))]
)
def test_there_are_goldens_of_one_two_and_four_lanes(name, lanes):
    found = bodies((GOLDEN / f"{name}.fw").read_bytes(), GOOD[name])
    counts = [len(read_body(body, header)[0].words) for header, body in found]
    assert counts == list(np.broadcast_to(lanes, len(counts)))


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("name", BAD)
def test_each_bad_bitstream_raises_its_one_error(name):
    data, facts = (GOLDEN / "bad" / f"{name}.fw").read_bytes(), BAD[name]
    with pytest.raises(CodecError, match=re.escape(facts["message"])) as caught:
        decode(data, facts)
    assert type(caught.value) is getattr(featurewire_codec, facts["error"])


def test_the_specification_works_the_golden_example():
    data = (GOLDEN / "worked.fw").read_bytes()
    text = SPECIFICATION.read_text(encoding="utf-8")
    assert explain(data) in text
    assert put(explain(data)) == text


@pytest.mark.usefixtures("backend")
def test_make_golden_makes_the_committed_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(golden_cases, "GOLDEN", tmp_path / "golden")
    monkeypatch.setattr("worked_example.SPECIFICATION", tmp_path / "BITSTREAM.md")
    make_golden = importlib.import_module("make_golden")
    monkeypatch.setattr(make_golden, "SPECIFICATION", tmp_path / "BITSTREAM.md")
    (tmp_path / "BITSTREAM.md").write_text(SPECIFICATION.read_text(encoding="utf-8"))
    make_golden.main()
    committed = {path.relative_to(GOLDEN): path for path in GOLDEN.rglob("*") if path.is_file()}
    made = {path.relative_to(tmp_path / "golden") for path in (tmp_path / "golden").rglob("*.*")}
    assert {path for path in made if (tmp_path / "golden" / path).is_file()} == set(committed)
    for path, file in committed.items():
        if path.suffix in (".fw", ".json"):
            assert (tmp_path / "golden" / path).read_bytes() == file.read_bytes(), path


def test_the_specification_names_the_version_that_is_written():
    text = SPECIFICATION.read_text(encoding="utf-8")
    assert f"# The featurewire bitstream, version {VERSION}\n" in text
    assert f"| 1 | version | {VERSION} |\n" in text
    assert f"derive: version {VERSION}, the flags" in text
