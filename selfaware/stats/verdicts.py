"""From intervals to yes, no or unclear, and to text. Knows estimates; must not know the tables they came from."""

import math
from collections.abc import Sequence

from selfaware.stats.intervals import LEVEL
from selfaware.stats.quantile import t_cdf, t_quantile
from selfaware.types import Estimate, Verdict3


def verdict(
    effect: Estimate, controls: Sequence[tuple[str, Estimate]], margin: float, *, instrument: bool = True
) -> tuple[Verdict3, str]:
    """The answer to "is there an effect?" with the reason, by the rule of the glossary.

    `no`: the effect's interval lies inside ± `margin` (an effect that small counts as none, even if it is not zero).
    `yes`: it lies above zero and beyond every control's interval. Anything else is `unclear`, and the reason names
    what stood in the way.

    Args:
        effect: in the direction of training, so that a positive value agrees with it.
        controls: names and estimates in the same unit.
        margin: the largest absolute value that still counts as none, in the same unit.
        instrument: False where what measures has failed its own check: then nothing it shows is an answer.
    """
    if not instrument:
        return "unclear", "instrument"
    if effect.value is None:
        return "unclear", effect.why or "undefined"
    if effect.low is None or effect.high is None:
        return "unclear", effect.why or "no interval"
    if not math.isfinite(effect.low) or not math.isfinite(effect.high):
        return "unclear", "its interval is not finite"
    if not math.isfinite(margin) or margin < 0:
        return "unclear", f"the margin is {margin:g}, which bounds nothing"
    if -margin < effect.low and effect.high < margin:
        return "no", f"inside ±{margin:g} {effect.unit}"
    if effect.high < 0:
        return "unclear", "it moves against the training"
    if effect.low <= 0:
        return "unclear", "too few families" if effect.n < 10 else "the interval holds zero and reaches past the margin"
    if not controls:
        return "unclear", "no control was run"
    unread = [name for name, c in controls if not _known(c.low) or not _known(c.high)]
    if unread:
        return "unclear", f"no interval for {', '.join(unread)}"
    beside = [name for name, c in controls if c.high is not None and effect.low <= c.high]
    if beside:
        return "unclear", f"controls move too: not beyond the interval of {', '.join(beside)}"
    return "yes", "beyond zero and every control"


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def equivalence(estimate: Estimate, margin: float) -> float | None:
    """p-value of the two one-sided tests that the true value lies inside ± `margin`; small means it does.

    The larger of the two one-sided p-values. A 95 % interval inside ± margin, the rule of `verdict`, is p < .025: half
    of the .05 that is usual for these tests, whose interval is the 90 % one.

    None without an interval, for an interval that is not value ± t · error (a ratio's), and for a margin that bounds
    nothing.

    Args:
        estimate: of what is tested, with its standard error and degrees of freedom.
        margin: the largest absolute value that still counts as none, in the estimate's unit.

    Source: Schuirmann 1987, J. Pharmacokinetics and Biopharmaceutics 15.
    """
    value, low, high, error = estimate.value, estimate.low, estimate.high, estimate.error
    if value is None or low is None or high is None or error is None or estimate.freedom <= 0:
        return None
    if not all(map(math.isfinite, (value, low, high, error, margin))) or margin < 0:
        return None
    half = t_quantile(0.5 + LEVEL / 2, estimate.freedom) * error
    near = 1e-9 * max(half, abs(value))
    if abs(value - low - half) > near or abs(high - value - half) > near:
        return None
    # How far outside the margin the value lies; the farther side's test is always the weaker one.
    outside = abs(value) - margin
    if error == 0:
        return float(outside >= 0)
    return t_cdf(outside / error, estimate.freedom)


def spoken(estimate: Estimate) -> str:
    """A signed value with its interval, as text."""
    if estimate.value is None:
        return estimate.why if estimate.why.startswith("undefined") else f"undefined ({estimate.why})"
    value = f"{estimate.value:+.2f}".replace("-", "−")
    if estimate.low is None or estimate.high is None:
        return f"{value} (no interval: {estimate.why})"
    return f"{value} [{estimate.low:+.2f}, {estimate.high:+.2f}]".replace("-", "−")


def detectable_text(estimate: Estimate) -> str:
    """What the design could have found, as text with two significant figures or more; empty where it is unknown."""
    size = estimate.detectable
    if size is None or not math.isfinite(size):
        return ""
    digits = max(2, 1 - math.floor(math.log10(size))) if size > 0 else 2
    return f"smallest shift this run could have found: {size:.{digits}f} {estimate.unit}"
