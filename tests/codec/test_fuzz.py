"""Mutated bitstreams: nothing but the codec's own errors comes out, and memory stays bounded."""

import fuzz
import pytest

SECONDS = 40.0


@pytest.mark.parametrize("name", ["numba", "constriction"])
def test_mutated_goldens_raise_the_codecs_errors_only(name, with_backend):
    """`python tests/codec/fuzz.py --count 10000000` does this at length."""
    with_backend(name)
    found = fuzz.run(10**9, seed=2026, seconds=SECONDS if name == "numba" else SECONDS / 2)
    assert not found["failures"], found["failures"][0]["error"]
    # Each of these is a way through: past the CRC, past the check, into the values.
    assert found["outcomes"]["decoded"] > 20
    assert len([outcome for outcome in found["outcomes"] if outcome.startswith("Chunk")]) > 10
    assert found["grown_mib"] < 1024
