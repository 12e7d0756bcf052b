"""Directions: a planted one is found, its sign and length are the rows' own, and centring loses what is constant."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from selfaware.errors import BadData
from selfaware.interventions.directions import direction, explained, mean, principal, unitized_mean

WAYS = ("mean", "unitized", "pc1", "pc1-centred")


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit(seed: int, width: int = 64) -> Tensor:
    v = noise(seed, width)
    return v / v.norm()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_planted_direction_is_found_with_its_sign_and_length(way: Any, sign: int) -> None:
    u, gate = sign * unit(0), 3 + noise(1, 200)
    x = gate[:, None] * u + 0.05 * noise(2, 200, 64)
    found = direction(x, way)
    assert float(found.v @ u) > 0.99
    assert float(found.v.norm()) == pytest.approx(1, abs=1e-12)
    assert found.magnitude == pytest.approx(float(gate.mean()), rel=0.02)
    assert found.magnitude == pytest.approx(float((x @ found.v).mean()), rel=1e-12)
    assert found.explained[0] > 0.8
    assert found.v.dtype == torch.float64


def test_a_constant_difference_is_found_by_all_but_the_centred_component() -> None:
    u = unit(3)
    x = 5 * u + 0.01 * noise(4, 100, 64)
    for way in ("mean", "unitized", "pc1"):
        found = direction(x, way)  # type: ignore[arg-type]
        assert float(found.v @ u) > 0.9999
        assert found.magnitude == pytest.approx(5, rel=1e-3)
        assert found.explained[0] > 0.999
    centred = principal(x, centred=True)
    assert abs(float(centred.v @ u)) < 0.6
    assert centred.explained[0] < 0.2
    with pytest.raises(BadData, match="do not vary"):
        principal(u.expand(10, 64), centred=True)
    assert float(principal(u.expand(10, 64), centred=False).v @ u) == pytest.approx(1)
    with pytest.raises(BadData, match="do not vary"):
        explained(u.expand(10, 64), centred=True)


def test_the_mean_counts_lengths_and_the_mean_of_units_does_not() -> None:
    one, other = torch.eye(4, dtype=torch.float64)[:2]
    x = torch.stack([one, one, one, 1000 * other])
    assert float(mean(x).v @ other) > 0.99
    assert mean(x).magnitude == pytest.approx(float(x.mean(0).norm()))
    assert float(unitized_mean(x).v @ one) == pytest.approx(3 / 10**0.5)


def test_shares_are_those_of_planted_singular_values() -> None:
    left = torch.linalg.qr(noise(5, 30, 4)).Q
    right = torch.linalg.qr(noise(6, 12, 4)).Q
    x = left @ torch.diag(torch.tensor([4.0, 2.0, 1.0, 1.0], dtype=torch.float64)) @ right.T
    assert explained(x, centred=False) == pytest.approx((16 / 22, 4 / 22, 1 / 22))
    assert explained(x, centred=False, count=6) == pytest.approx((16 / 22, 4 / 22, 1 / 22, 1 / 22, 0, 0), abs=1e-12)
    variances = np.sort(np.linalg.eigvalsh(np.cov(x.numpy().T)))[::-1]
    assert explained(x, centred=True) == pytest.approx(tuple(variances[:3] / variances.sum()))
    assert principal(x, centred=True).explained == pytest.approx(explained(x, centred=True))
    assert explained(noise(7, 1, 5), centred=False) == pytest.approx((1, 0, 0))


@pytest.mark.parametrize("way", WAYS)
def test_turning_the_space_turns_the_direction(way: Any) -> None:
    x = noise(8, 40, 16) * torch.arange(1, 17) + 2
    turn = torch.linalg.qr(noise(9, 16, 16)).Q
    a, b = direction(x, way), direction(x @ turn, way)
    assert torch.allclose(a.v @ turn, b.v, atol=1e-9)
    assert a.magnitude == pytest.approx(b.magnitude)
    low = direction(x.float(), way)
    assert torch.allclose(low.v, a.v, atol=1e-4)


@pytest.mark.parametrize("way", WAYS)
def test_what_has_no_direction_is_refused(way: Any) -> None:
    broken = noise(0, 4, 3)
    broken[2, 1] = torch.nan
    for x, message in (
        (torch.zeros(0, 3), "shape"),
        (torch.zeros(3, 0), "shape"),
        (torch.zeros(5, 3), "all zero"),
        (broken, "1 of 4 rows are not finite"),
    ):
        with pytest.raises(BadData, match=message):
            direction(x, way)
    pairs = noise(1, 10, 6)
    if way in ("mean", "unitized"):
        with pytest.raises(BadData, match="cancel out"):
            direction(torch.cat([pairs, -pairs]), way)
    if way == "unitized":
        with pytest.raises(BadData, match="1 of 11 are zero"):
            direction(torch.cat([pairs, torch.zeros(1, 6, dtype=torch.float64)]), way)


def test_a_small_mean_is_not_taken_for_none() -> None:
    x = noise(2, 50, 8) * 1e-9
    assert mean(x).magnitude == pytest.approx(float(x.mean(0).norm()))
