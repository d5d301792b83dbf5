"""Rate control: what a caller asks for in, the settings of one bitstream out.

An SNR on average over a domain follows from the profile. The others are searched for on the feature
itself: an SNR without a profile, a bound on every error, a size.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from .encoder import Settings
from .errors import FeatureError
from .quantiser import (
    BIT_WORTH,
    MAX_STEP_EXPONENT,
    MIN_STEP_EXPONENT,
    STEPS_PER_OCTAVE,
    Effort,
    checked_step_exponent,
    nearest_step_exponent,
)
from .span import quantise_plain, rebuild, rounding_for
from .transform import Floats

_SEARCH_FEATURES = 1 << 16
_FINEST_OCTAVES = 26  # a step is at least 2^-26 of the middle magnitude
_NEAR_TARGET = 0.985  # of the bits asked for: near enough to stop at
_FINER = (0, 1, 2, 3, 5, 8)  # than the first step that is too fine, with bits worth more
_MOST_WORTH = 16 * BIT_WORTH
_HALVINGS = 7
_BOUND_MARGIN = 1 - 2.0**-12  # float rounding on another machine stays within the bound


def plain_settings(
    feature: Floats, energy: float, snr_db: float, effort: Effort = "fast"
) -> Settings:
    """Find the step at which plain coding of some of the tokens reaches the SNR."""
    tokens, channels = feature.shape
    some = np.ascontiguousarray(feature[:: max(1, tokens * channels // _SEARCH_FEATURES)])
    target, asked = energy * 10 ** (-snr_db / 10), f"an SNR of {snr_db} dB"
    # A step beyond float32's precision of most values gains nothing: constants would ask for it.
    middle = max(float(np.median(np.abs(some))), 2.0**-126)
    finest = nearest_step_exponent(middle) - STEPS_PER_OCTAVE * _FINEST_OCTAVES
    step_exponent = max(nearest_step_exponent(math.sqrt(12.0 * target)), finest)
    for _ in range(6):
        reached = _plain_distortion(some, checked_step_exponent(step_exponent, asked), effort)
        octaves = 0.5 * np.log2(target / max(reached, 1e-300))
        change = round(STEPS_PER_OCTAVE * float(np.clip(octaves, -2.0, 2.0)))
        if change == 0 or step_exponent + change < finest:
            break
        step_exponent += change
    return Settings(checked_step_exponent(step_exponent, asked), energy=energy, effort=effort)


def bounded_settings(
    max_error: float, energy: float | None, largest_error: Callable[[Settings], float]
) -> Settings:
    """Find the largest step whose errors all stay within `max_error`, without a transform.

    A transform spreads errors, so that none is bounded by half a step: for a bound it always cost
    more than it saved. `largest_error` codes the feature at given settings and measures.

    Raises:
        FeatureError: no step does.
    """
    if not 0.0 < max_error < float("inf"):
        raise FeatureError(f"max_error is {max_error}, above zero and finite is allowed")
    bound = max_error * _BOUND_MARGIN
    step_exponent = math.floor(STEPS_PER_OCTAVE * math.log2(2.0 * bound))
    for finer in (0, 1, 2, 4, 8, 16, 32, 64, 96):  # what float32 takes off the bound
        found = checked_step_exponent(
            min(step_exponent - finer, MAX_STEP_EXPONENT), f"a max_error of {max_error:g}"
        )
        settings = Settings(found, bit_worth=None, midpoint=True, plain=True, energy=energy)
        if largest_error(settings) <= bound:
            return settings
    raise FeatureError(f"max_error is {max_error:g}, smaller than float32 has room for here")


def sized_settings(
    settings: Settings, target_bits: int, size: Callable[[Settings], float]
) -> Settings:
    """Find the settings whose bitstream comes nearest to `target_bits` without exceeding it.

    `size` codes the feature at given settings and returns the bits, infinitely many when they are
    too fine for an index. First the step, then, as a step changes the size by some per cent, what a
    bit is worth: less at that step, more at finer ones. Below some hundred bytes, and where values
    are few distinct numbers, sizes have larger gaps than that.

    Raises:
        FeatureError: no number of bits above zero, or not even the coarsest step makes so few.
    """
    if not 1 <= target_bits < float("inf"):
        raise FeatureError(f"target_bits is {target_bits}, at least 1 and finite is allowed")
    low, high = settings.step_exponent, settings.step_exponent
    pace = STEPS_PER_OCTAVE
    while size(replace(settings, step_exponent=high)) > target_bits:
        if high == MAX_STEP_EXPONENT:
            least = size(replace(settings, step_exponent=high))
            raise FeatureError(
                f"target_bits is {target_bits}, this feature takes {least:g} or more"
            )
        low, high, pace = high, min(high + pace, MAX_STEP_EXPONENT), pace * 2
    while low == high or size(replace(settings, step_exponent=low)) <= target_bits:
        if low == MIN_STEP_EXPONENT:
            return replace(settings, step_exponent=low)
        low, high, pace = max(low - pace, MIN_STEP_EXPONENT), low, pace * 2
    while high - low > 1:
        between = (low + high) // 2
        fits = size(replace(settings, step_exponent=between)) <= target_bits
        low, high = (low, between) if fits else (between, high)
    best = _fine_tuned(replace(settings, step_exponent=high), low, target_bits, size)
    if size(best) >= _NEAR_TARGET * target_bits or settings.plain:
        return best
    # What a profile adds to every token, such as a codeword's index, can leave a gap below it.
    plain = sized_settings(replace(settings, plain=True), target_bits, size)
    return max(best, plain, key=size)


def _fine_tuned(
    best: Settings, low: int, target_bits: int, size: Callable[[Settings], float]
) -> Settings:
    """Find how much a bit is to be worth: less than usual at the step, more at finer ones."""
    tries = [(best.step_exponent, 0.0, BIT_WORTH)]
    tries += [(max(low - n, MIN_STEP_EXPONENT), BIT_WORTH, _MOST_WORTH) for n in _FINER]
    for step_exponent, *worths in tries:
        dear, cheap = worths
        for _ in range(_HALVINGS):
            if size(best) >= _NEAR_TARGET * target_bits:
                return best
            worth = (dear + cheap) / 2
            tried = replace(best, step_exponent=step_exponent, bit_worth=worth)
            if size(tried) > target_bits:
                dear = worth
            else:
                best, cheap = max(best, tried, key=size), worth
    return best


def _plain_distortion(feature: Floats, step_exponent: int, effort: Effort) -> float:
    """Return the MSE of a feature [tokens, channels] that is coded plainly at a step."""
    coded = quantise_plain(feature, step_exponent, rounding_for(effort))
    rebuilt = rebuild(coded.symbols, coded.panels, step_exponent)[0]
    return float(np.mean((rebuilt - feature) ** 2, dtype=np.float64))
