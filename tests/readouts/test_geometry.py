"""Geometry: planted angles come back, and nulls are what theory says."""

import math

import pytest
import torch
from torch import Tensor

from selfaware.errors import BadData
from selfaware.readouts import geometry


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_planted_angles_come_back_with_their_sign() -> None:
    x = torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.0, 5.0], [-3.0, 0.0]])
    half = math.sqrt(0.5)
    wanted = torch.tensor([[1, half, 0, -1], [half, 1, half, -half], [0, half, 1, 0], [-1, -half, 0, 1]])
    got = geometry.cosines(x)
    assert torch.allclose(got, wanted.double(), atol=1e-7)
    assert torch.equal(got.diagonal(), torch.ones(4, dtype=torch.float64))
    assert torch.equal(got, got.T)
    assert geometry.norms(x).tolist() == pytest.approx([2, math.sqrt(2), 5, 3])
    assert geometry.projections(x, torch.tensor([-7.0, 0.0])).tolist() == pytest.approx([-2, -1, 0, 3])
    long = noise(0, 50, 30) * 1e6
    assert float(geometry.cosines(torch.cat([long, long]).float()).max()) == 1


def test_shares_in_a_span() -> None:
    basis = torch.linalg.qr(noise(1, 10, 3)).Q.T
    inside, outside = basis.T @ noise(2, 3), noise(3, 10)
    outside = outside - basis.T @ (basis @ outside)
    x = torch.stack([inside, outside, inside / inside.norm() + outside / outside.norm()])
    skew = noise(4, 3, 3) @ basis
    for span in (basis, skew, torch.cat([skew, skew[:1] + skew[1:2]])):  # the last one is not independent
        assert geometry.share_within(x, span).tolist() == pytest.approx([1, 0, 0.5], abs=1e-9)
    v = noise(5, 1, 10)
    assert geometry.share_within(x, v).tolist() == pytest.approx(
        [float(c) ** 2 for c in geometry.cosines(torch.cat([v, x]))[0, 1:]]
    )
    spread = geometry.share_within(noise(6, 400, 10), noise(7, 3, 10))
    assert float(spread.mean()) == pytest.approx(0.3, abs=0.03)


def test_variation_and_dimension() -> None:
    assert geometry.coefficient_of_variation(torch.full((5,), 3.0)) == 0
    assert geometry.coefficient_of_variation(torch.tensor([1.0, 3.0])) == pytest.approx(math.sqrt(2) / 2)
    assert geometry.coefficient_of_variation(torch.tensor([-1.0, -3.0])) == pytest.approx(math.sqrt(2) / 2)
    assert geometry.effective_dimension(torch.eye(6) * 4, centred=False) == pytest.approx(6)
    one = torch.outer(noise(0, 20), noise(1, 8))
    assert geometry.effective_dimension(one, centred=False) == pytest.approx(1)
    assert geometry.effective_dimension(one + 100, centred=True) == pytest.approx(1)
    spread = noise(2, 4000, 10) * torch.tensor([10.0] * 3 + [0.01] * 7)
    assert geometry.effective_dimension(spread, centred=True) == pytest.approx(3, rel=0.01)
    assert geometry.explained(spread, centred=True, count=4)[2] == pytest.approx(1 / 3, rel=0.1)


@pytest.mark.parametrize("width", [64, 900])
def test_the_even_null_is_that_of_theory(width: int) -> None:
    null = geometry.null_cosines(noise(0, 40, width), draws=3000, seed=0)
    assert len(null.isotropic) == len(null.matched) == 3000
    assert torch.equal(null.isotropic, null.isotropic.sort().values)
    assert float(null.isotropic.pow(2).mean()) == pytest.approx(1 / width, rel=0.1)
    assert null.quantile(0.6827)[0] == pytest.approx(1 / math.sqrt(width), rel=0.07)
    assert null.quantile(0.95)[0] == pytest.approx(1.96 / math.sqrt(width), rel=0.07)


def test_the_matched_null_has_the_covariances_dimension() -> None:
    scale = torch.cat([torch.full((9,), 10.0), torch.full((191,), 0.01)])
    x = noise(1, 3000, 200) * scale + 50
    null = geometry.null_cosines(x, draws=3000, seed=3)
    assert float(null.matched.pow(2).mean()) == pytest.approx(1 / 9, rel=0.1)
    assert float(null.isotropic.pow(2).mean()) == pytest.approx(1 / 200, rel=0.1)
    even, matched = null.p(-0.4)
    assert even == 1 / 3001
    assert 0.15 < matched < 0.35
    assert null.p(0.0) == (1, 1)
    again, other = (geometry.null_cosines(x, draws=300, seed=s) for s in (3, 4))
    assert torch.equal(again.matched, geometry.null_cosines(x, draws=300, seed=3).matched)
    assert not torch.equal(again.isotropic, other.isotropic)


def test_a_ceiling_is_of_ones_own_and_the_rest_is_of_others() -> None:
    centres = torch.linalg.qr(noise(0, 40, 3)).Q.T
    names = ["a", "b", "a", "b", "a", "c"]
    x = torch.stack([centres["abc".index(n)] for n in names]) + 0.02 * noise(1, 6, 40)
    own = geometry.within(x, names)
    assert {name: len(pairs) for name, pairs in own.items()} == {"a": 3, "b": 1, "c": 0}
    assert float(own["a"].min()) > 0.95
    others = geometry.between(x, names)
    assert {pair: len(pairs) for pair, pairs in others.items()} == {("a", "b"): 6, ("a", "c"): 3, ("b", "c"): 2}
    assert float(others["a", "b"].abs().max()) < 0.2
    whole = geometry.cosines(x)
    assert own["b"].tolist() == [float(whole[1, 3])]
    assert others["b", "c"].tolist() == [float(whole[1, 5]), float(whole[3, 5])]


def test_what_has_no_answer_is_refused() -> None:
    broken = noise(0, 4, 3)
    broken[1, 1] = torch.inf
    for x in (torch.zeros(0, 3), torch.zeros(3), broken):
        for ask in (geometry.cosines, geometry.norms, lambda x: geometry.null_cosines(x, 10, 0)):
            with pytest.raises(BadData, match="finite"):
                ask(x)
    with pytest.raises(BadData, match="1 of 2 are zero"):
        geometry.cosines(torch.tensor([[1.0, 0], [0, 0]]))
    for x, draws in ((torch.ones(4, 3), 10), (noise(0, 1, 3), 10), (noise(0, 4, 3), 0)):
        with pytest.raises(BadData, match="null of cosines"):
            geometry.null_cosines(x, draws, 0)
    with pytest.raises(BadData, match="3 rows and 2 names"):
        geometry.within(noise(0, 3, 4), ["a", "b"])
    with pytest.raises(BadData, match="widths 4 and 5"):
        geometry.projections(noise(0, 3, 4), noise(0, 5))
    with pytest.raises(BadData, match="widths 4 and 5"):
        geometry.share_within(noise(0, 3, 4), noise(0, 2, 5))
    for values in (torch.tensor([1.0]), torch.tensor([1.0, torch.nan]), torch.tensor([1.0, -1.0])):
        with pytest.raises(BadData, match="variation"):
            geometry.coefficient_of_variation(values)
