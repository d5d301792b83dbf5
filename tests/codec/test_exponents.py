"""The encoder's choice of row exponents."""

import numpy as np
from featurewire_codec.exponents import row_exponents


def test_a_row_on_its_own_gets_what_it_would_get_among_others():
    """By numbers where one total is all rows', by arrays else."""
    rng = np.random.default_rng(0)
    seen = set()
    for total in (0.0, 1.0, 900.0, 4096.0, 3e6):
        for ratio in 2.0 ** rng.uniform(-9, 9, 200):
            activity = np.array([round(ratio * total)], np.int64)
            alone = row_exponents(activity, total)
            np.testing.assert_array_equal(alone, row_exponents(activity, np.array([total])))
            assert alone.dtype == np.int32
            seen.add(int(alone[0]))
    assert len(seen) > 20
