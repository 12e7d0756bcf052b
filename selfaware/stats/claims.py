"""Whether an estimate bears out a claim about its size: at least, at most, inside. Knows estimates, no table.

Every rule can come out yes, no or unclear: yes and no need the whole interval on one side, so that neither is the default.
"""

import math
from collections.abc import Sequence

from selfaware.types import Estimate, Verdict3


def at_least(estimate: Estimate, bound: float) -> tuple[Verdict3, str]:
    """Whether the true value is at least `bound`: yes above it with the whole interval, no below it with the whole interval."""
    low, high, why = _ends(estimate)
    if why:
        return "unclear", why
    if low >= bound:
        return "yes", f"at least {bound:g} {estimate.unit}"
    if high < bound:
        return "no", f"less than {bound:g} {estimate.unit}"
    return "unclear", f"the interval holds {bound:g}"


def at_most(estimate: Estimate, bound: float) -> tuple[Verdict3, str]:
    """Whether the true value is at most `bound`."""
    low, high, why = _ends(estimate)
    if why:
        return "unclear", why
    if high <= bound:
        return "yes", f"at most {bound:g} {estimate.unit}"
    if low > bound:
        return "no", f"more than {bound:g} {estimate.unit}"
    return "unclear", f"the interval holds {bound:g}"


def inside(estimate: Estimate, margin: float) -> tuple[Verdict3, str]:
    """Whether the true value lies within ± `margin`: no where the whole interval lies beyond either end."""
    low, high, why = _ends(estimate)
    if why:
        return "unclear", why
    if -margin <= low and high <= margin:
        return "yes", f"inside ±{margin:g} {estimate.unit}"
    if low > margin or high < -margin:
        return "no", f"beyond ±{margin:g} {estimate.unit}"
    return "unclear", f"the interval reaches across ±{margin:g}"


def more(difference: Estimate, margin: float) -> tuple[Verdict3, str]:
    """Whether a difference from a control is above zero: yes with the whole interval, no inside ± `margin` or below zero with it.

    Args:
        difference: with the control already taken away.
        margin: the largest difference that counts as none.
    """
    low, high, why = _ends(difference)
    if why:
        return "unclear", why
    if -margin <= low and high <= margin:
        return "no", f"inside ±{margin:g} {difference.unit}"
    if low > 0:
        return "yes", "beyond the control"
    if high < 0:
        return "no", "less than the control"
    return "unclear", "the interval holds zero"


def all_of(answers: Sequence[tuple[Verdict3, str]]) -> tuple[Verdict3, str]:
    """The answer to a claim with several parts: no where one part is no, yes where all are; the reasons of what decided."""
    for wanted in ("no", "unclear"):
        reasons = [reason for answer, reason in answers if answer == wanted]
        if reasons:
            return ("no" if wanted == "no" else "unclear"), "; ".join(dict.fromkeys(reasons))
    return ("yes", "; ".join(dict.fromkeys(r for _, r in answers))) if answers else ("unclear", "nothing to judge")


def _ends(estimate: Estimate) -> tuple[float, float, str]:
    low, high = estimate.low, estimate.high
    if estimate.value is None:
        return 0.0, 0.0, estimate.why or "undefined"
    if low is None or high is None:
        return 0.0, 0.0, estimate.why or "no interval"
    if not (math.isfinite(low) and math.isfinite(high)):
        return 0.0, 0.0, "its interval is not finite"
    return low, high, ""
