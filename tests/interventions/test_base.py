"""Interventions: what they check, and their file."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from selfaware.errors import BadData, BadFile, BadModel, UnknownName
from selfaware.interventions.base import Constant, Intervention, LowRank
from selfaware.interventions.controls import RandomVector
from selfaware.interventions.steer import Vector
from selfaware.models.batch import Row
from selfaware.models.fake import fake
from selfaware.types import Site

ROWS = [Row((5, 6, 7, 8), (9, 10)), Row((8, 9), (11,))]


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def both() -> Intervention:
    deltas = {Site(1, "mlp.down_proj"): LowRank(noise(0, 2, 64), noise(1, 32, 2), 0.5), Site(2): Constant(noise(2, 32))}
    return Intervention(deltas, "answer", {"seed": 3})


def quiet(*_: object) -> None: ...


def test_save_and_load(tmp_path: Path) -> None:
    model, made = fake("llama"), both()
    made.save(tmp_path / "x.safetensors")
    back = Intervention.load(tmp_path / "x.safetensors")
    assert back.positions == "answer"
    assert back.provenance == {"seed": 3}
    assert list(map(str, sorted(back.deltas))) == ["1.mlp.down_proj", "2"]
    assert back.norm() == pytest.approx(made.norm())
    with torch.no_grad():
        numbers = []
        for one in (made, back):
            with one.on(model):
                numbers.append(model.logprobs(ROWS))
    assert torch.equal(*numbers)


def test_the_norm_is_of_what_is_added() -> None:
    low, v = both().deltas.values()
    assert both().norm() == pytest.approx(float(((0.5 * low.b @ low.a).pow(2).sum() + v.v.pow(2).sum()).sqrt()))


def header(path: Path, **changes: object) -> None:
    """Writes the file of `both` with its header changed; `None` takes an entry out."""
    both().save(path)
    made = both()
    tensors = {f"{s}/{n}": t for s, d in made.deltas.items() for n, t in d.tensors().items()}
    told = {
        "format": 1,
        "positions": "answer",
        "deltas": {str(s): d.header() for s, d in made.deltas.items()},
        "provenance": {},
    }
    told = {k: v for k, v in {**told, **changes}.items() if v is not None}
    save_file(tensors, path, metadata={"selfaware": json.dumps(told)})


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 99},
        {"deltas": None},
        {"provenance": None},
        {"deltas": {"1.mlp.down_proj": {"kind": "low_rank"}}},
        {"deltas": {"1.mlp.down_proj": {"kind": "constant"}}},
        {"deltas": {"1.mlp.down_proj": {"kind": "fourier"}}},
        {"deltas": {"2": {"kind": "constant"}}},
        {"deltas": ["2"]},
        {"deltas": {"2": "constant"}},
    ],
)
def test_headers_that_do_not_fit_are_bad_files(tmp_path: Path, changes: dict[str, object]) -> None:
    header(tmp_path / "x", **changes)
    with pytest.raises(BadFile, match="x: "):
        Intervention.load(tmp_path / "x")


def test_broken_files(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with pytest.raises(BadFile, match="x: "):
        Intervention.load(path)
    both().save(path)
    whole = path.read_bytes()
    for cut in (0, 4, 100, len(whole) - 3):
        path.write_bytes(whole[:cut])
        with pytest.raises(BadFile, match="Fit it again"):
            Intervention.load(path)
    for metadata in (None, {"selfaware": "[1]"}, {"selfaware": "{"}, {"other": "x"}):
        save_file({"v": torch.ones(3)}, path, metadata=metadata)
        with pytest.raises(BadFile):
            Intervention.load(path)
    header(path, positions="everywhere")
    with pytest.raises(UnknownName, match="everywhere"):
        Intervention.load(path)


def test_a_delta_of_another_width_names_both_shapes() -> None:
    model = fake("llama")
    wrong = {
        "v \\(16,\\).*v \\(32,\\)": (Site(1), Constant(torch.ones(16))),
        "b \\(16, 2\\).*b \\(32, 2\\)": (Site(1, "mlp.down_proj"), LowRank(torch.ones(2, 64), torch.ones(16, 2), 1.0)),
        "a \\(2, 48\\).*a \\(2, 64\\)": (Site(1, "mlp.down_proj"), LowRank(torch.ones(2, 48), torch.ones(32, 2), 1.0)),
        "linear module": (Site(1, "mlp"), LowRank(torch.ones(2, 32), torch.ones(32, 2), 1.0)),
    }
    for message, (site, delta) in wrong.items():
        with pytest.raises(BadModel, match=f"site {site}: .*{message}.*"), Intervention({site: delta}, "all").on(model):
            pytest.fail("attached")
    with pytest.raises(UnknownName, match="4 blocks"):
        Intervention({Site(7): Constant(torch.ones(32))}, "all").check(model)


def test_shapes_in_annotations_are_checked_in_tests() -> None:
    with pytest.raises(TypeError):
        Constant(torch.ones(2, 3))
    with pytest.raises(TypeError):
        LowRank(torch.ones(2, 3), torch.ones(4, 5), 1.0)


def test_random_vectors_have_the_norm_and_turn_with_polarity() -> None:
    model, given = fake("llama"), Intervention({Site(1, "mlp"): Constant(noise(5, 32) * 3)}, "last_prompt")
    before = torch.random.get_rng_state()

    def made(polarity="high", seed: int = 0, index: int = 0) -> Intervention:
        return RandomVector(Vector(), index).fit(model, [], polarity, seed, [given], quiet)

    v = lambda i: i.deltas[Site(1, "mlp")].v
    assert made().positions == "last_prompt"
    assert made().norm() == pytest.approx(given.norm(), rel=1e-6)
    assert torch.equal(v(made("low")), -v(made()))
    assert torch.equal(v(made()), v(made()))
    directions = torch.stack([v(made(seed=s, index=i)) for s in range(3) for i in range(5)])
    directions = directions / directions.norm(dim=1, keepdim=True)
    assert float((directions @ directions.T - torch.eye(15)).abs().max()) < 0.8
    assert torch.equal(before, torch.random.get_rng_state())
    with pytest.raises(BadData, match="Fit it first"):
        RandomVector().fit(model, [], "high", 0, [], quiet)
