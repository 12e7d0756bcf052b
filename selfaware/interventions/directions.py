"""One direction from many differences: mean, mean of units, first principal component. Knows tensors alone, no model."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from selfaware.errors import BadData

Way = Literal["mean", "unitized", "pc1", "pc1-centred"]

NOTHING = 1e-6
"""Share of the rows' size below which a length counts as rounding: outputs come in float32, and rows that cancel out, or do not vary,
leave some 1e-7 of themselves. A component of that would be a direction made of nothing."""


@dataclass(frozen=True)
class Direction:
    """What differences have in common.

    Attributes:
        v: unit vector, `[D]`, float64; its sign is the one with which the mean projection of the rows is not negative.
        magnitude: that mean projection, in the rows' units.
        explained: share of the rows' sum of squares along each of their first three principal components; centred where
            the direction is, uncentred otherwise, and zero where there are fewer components.
    """

    v: Float[Tensor, " D"]
    magnitude: float
    explained: tuple[float, float, float]


def direction(x: Float[Tensor, "N D"], way: Way) -> Direction:
    """The direction by that name: `mean`, `unitized`, `pc1` (uncentred) or `pc1-centred`.

    Raises:
        BadData: as the function it stands for.
    """
    if way == "mean":
        return mean(x)
    return unitized_mean(x) if way == "unitized" else principal(x, centred=way == "pc1-centred")


def mean(x: Float[Tensor, "N D"]) -> Direction:
    """The rows' mean; its magnitude is the mean's norm.

    Args:
        x: differences, a row each.

    Raises:
        BadData: no rows, rows that are not finite or all zero, or a mean of zero.
    """
    x = _checked(x)
    return _made(x, x.mean(0), float(x.pow(2).sum(1).mean()) ** 0.5, centred=False)


def unitized_mean(x: Float[Tensor, "N D"]) -> Direction:
    """The mean of the rows' directions: every row counts alike, however long it is.

    Args:
        x: differences, a row each.

    Raises:
        BadData: no rows, rows that are not finite, a row of zero, or a mean of zero.
    """
    x = _checked(x)
    lengths = x.norm(dim=1, keepdim=True)
    none = int((lengths == 0).sum())
    if none:
        raise BadData(
            f"differences: {none} of {len(x)} are zero; each needs a direction to be averaged. Use the mean of them as they are."
        )
    return _made(x, (x / lengths).mean(0), 1.0, centred=False)


def principal(x: Float[Tensor, "N D"], centred: bool) -> Direction:
    """The first principal component: the first right singular vector.

    Where all rows are one constant vector, centring takes away exactly that vector, and what is left is noise: the centred
    component finds it only where its coefficient varies by more than everything else. The uncentred one does not have this
    fault.

    Args:
        x: differences, a row each.
        centred: whether the rows' mean is taken away first.

    Raises:
        BadData: no rows, rows that are not finite or all zero, or, centred, rows that do not vary.
    """
    x = _checked(x)
    about = x - x.mean(0) if centred else x
    if centred and float(about.norm()) <= NOTHING * float(x.norm()):
        raise BadData(
            f"differences: {len(x)} rows that do not vary; centred ones need variance. Use the mean, or do not centre."
        )
    return _made(x, torch.linalg.svd(about, full_matrices=False).Vh[0], 1.0, centred)


def explained(x: Float[Tensor, "N D"], centred: bool, count: int = 3) -> tuple[float, ...]:
    """Share of the rows' sum of squares along each of the first principal components, largest first; zero beyond the last.

    Args:
        x: a row each.
        centred: whether the rows' mean is taken away first; uncentred, a constant vector is a component like others.
        count: how many.

    Raises:
        BadData: no rows, rows that are not finite or all zero, or, centred, rows that do not vary.
    """
    x = _checked(x)
    about = x - x.mean(0) if centred else x
    squares = torch.linalg.svdvals(about).pow(2)
    whole = float(squares.sum())
    if whole <= (NOTHING * float(x.norm())) ** 2:
        raise BadData(
            f"rows: {len(x)} that do not vary; centred ones need variance to be shared out. Do not centre them."
        )
    shares = (squares / whole).tolist()
    return tuple(shares[:count]) + (0.0,) * (count - len(shares))


def _made(x: Tensor, along: Tensor, scale: float, centred: bool) -> Direction:
    """The direction of `along`, which is none where it is as short as the rounding of what was averaged."""
    length = float(along.norm())
    if not length > NOTHING * scale:
        raise BadData(
            f"differences: {len(x)} rows that cancel out; a mean that is not zero is needed. Use a principal component."
        )
    v = along / length
    magnitude = float((x @ v).mean())
    if magnitude < 0:
        v, magnitude = -v, -magnitude
    one, two, three = explained(x, centred)
    return Direction(v, magnitude, (one, two, three))


def _checked(x: Tensor) -> Tensor:
    """The rows in float64, where they are rows that say something."""
    if x.ndim != 2 or 0 in x.shape:
        raise BadData(f"differences: got shape {tuple(x.shape)}; rows (N, D) are needed. Take some.")
    bad = int((~x.isfinite()).any(1).sum())
    if bad:
        raise BadData(f"differences: {bad} of {len(x)} rows are not finite; all must be. Look at the model's outputs.")
    made = x.detach().double()
    if not made.any():
        raise BadData(
            f"differences: {len(x)} rows, all zero; some that are not are needed. "
            "See that the change lies at or below the site, and acts at these tokens."
        )
    return made
