"""In: token identifiers of the training text. Out: the loss of a trigram model on other tokens.

The baseline a trained model has to beat: interpolated modified Kneser-Ney with the closed-form
discounts of Chen and Goodman, "An Empirical Study of Smoothing Techniques for Language Modeling"
(1999), section 3. It sees the same tokens as the model and is not limited by the model's context.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import cast

LARGEST_DISCOUNT_CLASS = 3  # counts of three and more share a discount


class Level:
    """One order of the model: P(token | context) = discounted counts + weight * lower order."""

    def __init__(self, counts: Counter[tuple[Hashable, int]]) -> None:
        """Take how often each (context, token) was seen; raises nothing."""
        self._counts = counts
        self._totals: Counter[Hashable] = Counter()
        self._held_back: defaultdict[Hashable, float] = defaultdict(float)
        self._discounts = _discounts(counts)
        for (context, _), count in counts.items():
            self._totals[context] += count
            self._held_back[context] += self._discount(count)

    def _discount(self, count: int) -> float:
        return self._discounts[min(count, LARGEST_DISCOUNT_CLASS)]

    def probability(self, context: Hashable, token: int, lower: float) -> float:
        """Probability of `token` after `context`, where the lower order gives it `lower`."""
        total = self._totals.get(context)
        if not total:
            return lower
        count = self._counts.get((context, token), 0)
        return (count - self._discount(count) + self._held_back[context] * lower) / total


class Trigram:
    """Interpolated Kneser-Ney over token identifiers."""

    def __init__(self, tokens: Sequence[int], vocabulary: int) -> None:
        """Count `tokens` (one long sequence, documents joined by their marks)."""
        trigrams: Counter[tuple[Hashable, int]] = Counter(
            ((first, second), third)
            for first, second, third in zip(tokens, tokens[1:], tokens[2:], strict=False)
        )
        # Below the highest order a token counts once for each context it was seen in.
        bigrams: Counter[tuple[Hashable, int]] = Counter(
            (second, token)
            for (_, second), token in cast(Iterable[tuple[tuple[int, int], int]], trigrams)
        )
        unigrams: Counter[tuple[Hashable, int]] = Counter((None, token) for _, token in bigrams)
        self._uniform = 1 / vocabulary
        self._unigram = Level(unigrams)
        self._bigram = Level(bigrams)
        self._trigram = Level(trigrams)

    def loss(self, tokens: Sequence[int], scored: Iterable[int]) -> float:
        """Mean negative log-probability, in nats, of `tokens[i]` for i in `scored` (i >= 2)."""
        losses = []
        for i in scored:
            first, second, token = tokens[i - 2 : i + 1]
            probability = self._unigram.probability(None, token, self._uniform)
            probability = self._bigram.probability(second, token, probability)
            probability = self._trigram.probability((first, second), token, probability)
            losses.append(-math.log(probability))
        return sum(losses) / len(losses)


def unigram_loss(train: Sequence[int], tokens: Iterable[int], vocabulary: int) -> float:
    """Mean negative log-probability, in nats, under add-one token frequencies of `train`."""
    counts = Counter(train)
    total = len(train) + vocabulary
    losses = [-math.log((counts[token] + 1) / total) for token in tokens]
    return sum(losses) / len(losses)


def _discounts(counts: Counter[tuple[Hashable, int]]) -> tuple[float, ...]:
    """Discounts of counts 0, 1, 2 and 3 or more."""
    seen = Counter(counts.values())
    n = [max(seen[count], 1) for count in range(LARGEST_DISCOUNT_CLASS + 2)]
    y = n[1] / (n[1] + 2 * n[2])
    # max and min: a text of a few lines may have no usable counts of counts
    return (0.0, *(min(max(k - (k + 1) * y * n[k + 1] / n[k], 0.0), k) for k in (1, 2, 3)))
