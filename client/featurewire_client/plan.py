"""Where to split: the split points' costs over a link in; the best one, and why, out."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from featurewire_client.split_cost import STAGES, Link, Pass, SplitCost

# how finely and how far from the rate, and how far from the tokens, another best is looked for
_STEP, _FAR, _FAR_TOKENS = 1.05, 1e4, 8


@dataclass(frozen=True)
class Plan:
    """The link as it was, every split point's cost over it, and the tokens that are wanted.

    `most_tokens`: what the model's context has room for; None: nobody knows.
    """

    link: Link
    costs: list[SplitCost]
    tokens: int = 1
    most_tokens: int | None = None

    @property
    def best(self) -> SplitCost:
        """The split point with the shortest total."""
        return min(self.costs, key=self.total_ms)

    def total_ms(self, cost: SplitCost) -> float:
        """What it is to take."""
        return cost.total_ms(self.link, self.tokens)

    def rows(self) -> list[dict[str, Any]]:
        """Every figure of every split point by name, for tables and JSON."""
        return [
            {
                "split": cost.split,
                "profiled": cost.profiled,
                "asked": cost.asked,
                "request": _row(cost.request, self.link),
                "token": _row(cost.token, self.link) if cost.token else None,
                "total_ms": self.total_ms(cost),
            }
            for cost in self.costs
        ]


def _row(one: Pass, link: Link) -> dict[str, float]:
    stages = {f"{stage}_ms": one.stage_ms(stage, link) for stage in STAGES}
    return {
        "sent_bytes": one.sent_bytes,
        "received_bytes": one.received_bytes,
        "parts": one.parts,
        **stages,
        "total_ms": one.total_ms(link),
    }


def reason(plan: Plan) -> str:
    """Sentences: the best split point, what the runner-up would cost more, what would change it."""
    first = plan.best
    for_what = f" for {plan.tokens} tokens" if plan.tokens > 1 else ""
    others = [cost for cost in plan.costs if cost is not first]
    if not others:
        return f"{first.split} is the only split point: {plan.total_ms(first):.1f} ms{for_what}."
    second = min(others, key=plan.total_ms)
    gains = {
        stage: second.stage_ms(stage, plan.link, plan.tokens)
        - first.stage_ms(stage, plan.link, plan.tokens)
        for stage in STAGES
    }
    stage = max(gains, key=lambda name: gains[name])
    return (
        f"Split at {first.split}: {plan.total_ms(first):.1f} ms in all{for_what}. Next is"
        f" {second.split} with {plan.total_ms(second):.1f} ms, mostly {gains[stage]:.1f} ms more"
        f" of {stage}. {what_would_change_it(plan)}"
    )


def what_would_change_it(plan: Plan) -> str:
    """The links, slower and faster, and the lengths of text at which another one would be best."""
    is_text = plan.costs[0].token is not None
    said = [
        f"{where} {rate:.3g} Mbit/s {split}"
        for where, factor in (("below", 1 / _STEP), ("above", _STEP))
        for rate, split in _change_of_rate(plan, factor)
    ]
    said += [f"{_lengths(count, plan.tokens)} {split}" for count, split in _changes_of_tokens(plan)]
    if not said:
        what = "No rate of the link and no length of text" if is_text else "No rate of the link"
        return f"{what} would change that."
    first = f"{said[0]} would be faster"
    return ", ".join([first[0].upper() + first[1:], *said[1:]]) + "."


def _lengths(count: int, tokens: int) -> str:
    """The lengths of text that a change holds for, from `count` on and away from `tokens`."""
    if count == 1:  # none is shorter
        return "for 1 token"
    return f"for {count} tokens or {'fewer' if count < tokens else 'more'}"


def _change_of_rate(plan: Plan, factor: float) -> Iterator[tuple[float, str]]:
    """The nearest rate, going by factors from the link's, where another one is best; or none."""

    def best_at(rate: float) -> str:
        return replace(plan, link=replace(plan.link, rate_mbit=rate)).best.split

    best, rate = plan.best.split, plan.link.rate_mbit
    here, there = rate, rate * factor
    while best_at(there) == best:
        here, there = there, there * factor
        if not 1 / _FAR < there / rate < _FAR:
            return
    while abs(there / here - 1) > 1e-6:
        middle = (here + there) / 2
        here, there = (middle, there) if best_at(middle) == best else (here, middle)
    yield there, best_at(there)


def _changes_of_tokens(plan: Plan) -> Iterator[tuple[int, str]]:
    """The nearest counts of tokens, lower and higher, where another one is best; or none.

    Totals are straight lines over tokens: another one can be best only from a crossing on.
    """

    def line(cost: SplitCost) -> tuple[float, float]:
        first_ms = cost.total_ms(plan.link)
        return first_ms, cost.total_ms(plan.link, 2) - first_ms

    first_ms, each_ms = line(plan.best)
    most = _FAR_TOKENS * plan.tokens
    if plan.most_tokens is not None:
        most = min(most, plan.most_tokens)
    counts = set[int]()
    for other_first_ms, other_each_ms in map(line, plan.costs):
        if other_each_ms != each_ms:
            crossing = 1 + (other_first_ms - first_ms) / (each_ms - other_each_ms)
            if -1 < crossing < most + 1:
                counts |= {math.floor(crossing) + step for step in (-1, 0, 1, 2)}
    within = sorted(count for count in counts if 1 <= count <= most)
    for some in (
        [count for count in reversed(within) if count < plan.tokens],
        [count for count in within if count > plan.tokens],
    ):
        bests = ((count, replace(plan, tokens=count).best.split) for count in some)
        yield from islice((one for one in bests if one[1] != plan.best.split), 1)
