"""KNOWS numbers: seeds × families tables to `Estimate`s, with intervals, p-values and verdicts. Must not know a model, a domain or a file.

quantile    Student's t
intervals   the two-way interval of a mean; shifts and effects
ratio       Fieller's interval of one mean over another; the mean of every run's own ratio
looks       the largest of several looks, corrected for having looked several times
claims      whether an estimate is at least, at most or inside something
correlation Pearson's r within groups
profiles    whether two sets of questions act at the same layers
verdicts    from an interval to yes, no or unclear, and to text
"""

from selfaware.stats.claims import all_of, at_least, at_most, inside, more
from selfaware.stats.correlation import correlation
from selfaware.stats.intervals import (
    LEVEL,
    POWER,
    difference,
    estimate,
    half_difference,
    joined,
    mean_products,
    standard_error,
    table,
)
from selfaware.stats.looks import Look, Looks, largest
from selfaware.stats.profiles import Alike, alike, all_alike, onset, peaks, scaled
from selfaware.stats.quantile import t_cdf, t_quantile
from selfaware.stats.ratio import mean_ratio, ratio
from selfaware.stats.verdicts import detectable_text, equivalence, spoken, verdict

__all__ = [
    "LEVEL",
    "POWER",
    "Alike",
    "Look",
    "Looks",
    "alike",
    "all_alike",
    "all_of",
    "at_least",
    "at_most",
    "correlation",
    "detectable_text",
    "difference",
    "equivalence",
    "estimate",
    "half_difference",
    "inside",
    "joined",
    "largest",
    "mean_products",
    "mean_ratio",
    "more",
    "onset",
    "peaks",
    "ratio",
    "scaled",
    "spoken",
    "standard_error",
    "t_cdf",
    "t_quantile",
    "table",
    "verdict",
]
