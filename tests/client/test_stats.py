"""What an account says of the network: the time that is no stage's, and no more than that."""

import pytest
from featurewire_client.stats import InferStats


def stats(total_ms: float) -> InferStats:
    """Stages of 10, 20, 1, 5 and 30 ms."""
    return InferStats(
        features=100,
        sent_bytes=50,
        received_bytes=50,
        head_ms=10.0,
        encode_ms=20.0,
        queue_ms=1.0,
        decode_ms=5.0,
        tail_ms=30.0,
        total_ms=total_ms,
    )


@pytest.mark.parametrize(("total_ms", "network_ms"), [(106.0, 40.0), (66.0, 0.0), (45.0, 0.0)])
def test_the_network_has_what_the_stages_leave_and_never_less_than_nothing(total_ms, network_ms):
    """The last one's stages ran side by side: nobody knows for how long none of them did."""
    assert stats(total_ms).network_ms == network_ms
    assert f"encode 20.0, network alone {network_ms:.1f}, queue 1.0" in str(stats(total_ms))
