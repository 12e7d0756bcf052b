"""KNOWS numbers: seeds × families tables to `Estimate`s, with intervals, p-values and verdicts. Must not know a model, a domain or a file.

quantile    Student's t
intervals   the two-way interval of a mean; shifts and effects
ratio       Fieller's interval of one mean over another
looks       the largest of several looks, corrected for having looked several times
verdicts    from an interval to yes, no or unclear, and to text
"""

from selfaware.stats.intervals import (
    LEVEL,
    POWER,
    difference,
    estimate,
    half_difference,
    mean_products,
    standard_error,
    table,
)
from selfaware.stats.looks import Look, Looks, largest
from selfaware.stats.quantile import t_cdf, t_quantile
from selfaware.stats.ratio import ratio
from selfaware.stats.verdicts import detectable_text, equivalence, spoken, verdict

__all__ = [
    "LEVEL",
    "POWER",
    "Look",
    "Looks",
    "detectable_text",
    "difference",
    "equivalence",
    "estimate",
    "half_difference",
    "largest",
    "mean_products",
    "ratio",
    "spoken",
    "standard_error",
    "t_cdf",
    "t_quantile",
    "table",
    "verdict",
]
