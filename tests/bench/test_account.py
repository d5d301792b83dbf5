"""Accounts: medians over inferences, and rows that set ours beside float16."""

from dataclasses import asdict, dataclass

from featurewire_bench.account import Row, Run


@dataclass(frozen=True)
class Stats:
    float16_bytes: int
    sent_bytes: int
    bpfp: float
    head_ms: float = 1.0
    encode_ms: float = 2.0
    network_ms: float = 2.5
    queue_ms: float = 0.5
    decode_ms: float = 4.0
    tail_ms: float = 5.0
    total_ms: float = 15.0


def run(codec: str, stats: list[Stats]) -> Run:
    return Run.of(
        stats,
        model="tiny",
        task="depth",
        split="layers.4",
        codec=codec,
        snr_db=None,
        rate_mbit=20.0,
        rtt_ms=40.0,
        metric="RMSE, m",
        value=0.25,
    )


def test_a_run_holds_the_medians_of_its_inferences() -> None:
    stats = [
        Stats(200, 50, 4.0, total_ms=10.0),
        Stats(200, 60, 4.8, total_ms=90.0),
        Stats(200, 40, 3.2, total_ms=30.0),
    ]
    measured = run("featurewire", stats)
    assert measured.inferences == 3
    assert (measured.float16_bytes, measured.sent_bytes, measured.bpfp) == (200, 50, 4.0)
    assert measured.ms.total == 30.0
    assert measured.ms.decode == 4.0


def test_a_row_takes_its_float16_total_from_the_float16_run() -> None:
    ours = run("featurewire", [Stats(200, 50, 4.0)])
    plain = run("float16", [Stats(200, 210, 16.8, total_ms=77.0)])
    row = asdict(Row.of(ours, plain, unsplit=0.24))
    assert (row["unsplit"], row["split_value"]) == (0.24, 0.25)
    assert (row["float16_bytes"], row["sent_bytes"]) == (210, 50)
    assert row["ms"] == {
        "head": 1.0,
        "encode": 2.0,
        "network": 3.0,
        "decode": 4.0,
        "tail": 5.0,
        "total": 15.0,
        "float16_total": 77.0,
    }
