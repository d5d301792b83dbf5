"""Predictions beside runs: complete rows of positive figures, for inferences and for texts."""

import math

import pytest
from featurewire_bench.plan_accuracy import Figure, Predicted, run_plan_accuracy, sample_work
from featurewire_bench.sessions import plans_table


@pytest.mark.parametrize(
    ("model", "task", "tokens"),
    [
        ("tiny-dinov2", "classification", 0),
        ("tiny-llama3", "generation", 3),
        ("tiny-llama3", "generation", 0),
    ],
)
async def test_every_split_point_has_its_predicted_and_measured_figures(model, task, tokens):
    work = sample_work(model, task, tokens)
    splits, rates = ["layers.1", "layers.4"], [100.0]
    rows = await run_plan_accuracy(model, task, work, splits, rates, 1.0, 15.0, 1, lambda _: None)
    assert [row.split for row in rows] == splits
    assert sum(row.is_best for row in rows) == 1
    for row in rows:
        assert (row.model, row.rate_mbit) == (model, 100.0)
        figures = [row.total, row.first, row.token] if tokens else [row.total]
        for figure in figures:
            assert figure.measured_ms > 0
            assert math.isfinite(figure.error)


def test_the_table_has_predicted_measured_and_error_and_the_choice_in_bold():
    rows = [
        Predicted("m", 1.0, "layers.0", False, Figure(110.0, 100.0)),
        Predicted("m", 1.0, "layers.1", True, Figure(99.0, 90.0), Figure(40, 50), Figure(9, 10)),
    ]
    assert plans_table(rows).splitlines()[2:] == [
        "| m | 1 | layers.0 |  |  | 110 / 100, +10% |",
        "| m | 1 | **layers.1** | 40.0 / 50.0, -20% | 9.0 / 10.0, -10% | 99.0 / 90.0, +10% |",
    ]
