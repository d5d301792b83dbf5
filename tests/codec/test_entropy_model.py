"""The entropy model: levels to groups and classes, and the coding order of a panel."""

import numpy as np
from featurewire_codec.entropy_model import (
    CLASSES,
    GROUP_CLASS,
    GROUP_RAW_BITS,
    GROUPS,
    MAX_RAW_BITS,
    Ladder,
    quarter_octave,
)
from hypothesis import given
from hypothesis import strategies as st

OFFSETS = st.lists(st.integers(-1024, 1024), min_size=1, max_size=40)


def test_groups_map_to_classes_and_raw_bits():
    groups = [0, 48, 63, 64, 67, 68, 159]
    assert GROUP_CLASS[groups].tolist() == [0, 48, 63, 60, 63, 60, 63]
    assert GROUP_RAW_BITS[groups].tolist() == [0, 0, 0, 1, 1, 2, MAX_RAW_BITS]
    assert len(GROUP_CLASS) == GROUPS == 160
    assert GROUP_CLASS.max() == CLASSES - 1


def test_a_step_exponent_counts_in_whole_quarter_octaves_rounded_down():
    assert [quarter_octave(j) for j in (-9, -8, -1, 0, 7, 8)] == [-2, -1, -1, 0, 0, 1]


@given(OFFSETS, st.lists(st.integers(-400, 400), min_size=1, max_size=5))
def test_a_ladder_sorts_columns_by_offset_and_then_by_number(offsets, shifts):
    ladder = Ladder.of(np.array(offsets, np.int32))
    order = sorted(range(len(offsets)), key=lambda column: (offsets[column], column))
    assert ladder.offsets.tolist() == [offsets[column] for column in order]
    values = np.arange(len(offsets), dtype=np.float32)[None]
    assert ladder.in_order(values)[0].tolist() == order
    groups = ladder.groups(np.array(shifts, np.int32))
    wanted = [[min(max(offsets[c] + shift, 0), 159) for c in order] for shift in shifts]
    assert groups.tolist() == wanted


@given(OFFSETS)
def test_the_rungs_of_a_ladder_say_where_each_offset_begins(offsets):
    ladder = Ladder.of(np.array(offsets, np.int32))
    for rung, first in enumerate(ladder.first.tolist()):
        assert first == sum(offset < ladder.lowest + rung for offset in offsets)
