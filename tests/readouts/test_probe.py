"""A probe finds what is planted, says nothing of noise, and never sees the family that it is judged on."""

import numpy as np
import pytest
import torch

from selfaware.errors import BadData
from selfaware.interventions.base import Constant, Intervention, LowRank
from selfaware.interventions.lora import Lora
from selfaware.models import hooks
from selfaware.models.batch import Row
from selfaware.models.fake import fake
from selfaware.readouts.probe import Features, gates, held_out, logistic, right
from selfaware.readouts.weights import Weights
from selfaware.types import Prompt, Question, Site


def data(n: int, k: int, apart: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Rows of two kinds, `apart` standard deviations from each other along the first feature; families of three."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    x = rng.standard_normal((n, k))
    x[:, 0] += apart * y
    return x, y, [f"{'ab'[kind]}{at // 6}" for at, kind in enumerate(y)]


class TestLogistic:
    def test_the_slope_vanishes_at_what_is_found(self) -> None:
        x, y, _ = data(40, 3, 2.0)
        x, y = x[:33], y[:33]  # 17 of one kind, 16 of the other
        w, b = logistic(x, y, 0.7)
        ones = y.sum()
        weight = np.where(y > 0, len(y) / (2 * ones), len(y) / (2 * (len(y) - ones)))
        off = weight * (1 / (1 + np.exp(-(x @ w + b))) - y)
        assert np.abs(x.T @ off + 0.7 * w).max() < 1e-6
        assert abs(off.sum()) < 1e-6

    def test_more_features_than_rows_is_the_same_problem(self) -> None:
        x, y, _ = data(12, 3, 2.0)
        w, b = logistic(x, y)
        wide = np.random.default_rng(1).standard_normal((3, 50))
        turned = np.linalg.qr(wide.T)[0].T  # 3 orthonormal directions of 50
        v, c = logistic(x @ turned, y)
        assert np.allclose(turned @ v, w, atol=1e-6)
        assert c == pytest.approx(b, abs=1e-6)
        assert np.linalg.norm(v) == pytest.approx(np.linalg.norm(w), abs=1e-6), "nothing outside the span of the rows"

    def test_rows_that_can_be_parted_give_finite_weights(self) -> None:
        x = np.array([[-1000.0], [-900.0], [900.0], [1000.0]])
        w, b = logistic(x, np.array([0, 0, 1, 1]), 1e-3)
        assert np.isfinite(w).all() and np.isfinite(b)
        assert ((x[:, 0] * w[0] + b) > 0).tolist() == [False, False, True, True]

    def test_the_rarer_kind_counts_as_much(self) -> None:
        x = np.zeros((10, 1))
        _, b = logistic(x, np.array([1, 1] + [0] * 8))
        assert b == pytest.approx(0.0, abs=1e-8)

    @pytest.mark.parametrize(("y", "ridge"), [([1, 1, 1, 1], 1.0), ([0, 1, 0, 1], 0.0)])
    def test_what_it_refuses(self, y: list[int], ridge: float) -> None:
        with pytest.raises(BadData, match="probe"):
            logistic(np.ones((4, 1)), np.array(y), ridge)
        with pytest.raises(BadData, match="finite"):
            logistic(np.full((4, 1), np.nan), np.array([0, 1, 0, 1]))


class TestHeldOut:
    @pytest.mark.parametrize("k", [1, 3, 200])
    def test_a_planted_direction_is_found(self, k: int) -> None:
        x, y, families = data(120, k, 5.0)
        share = right(held_out(x, y, families), y).mean()
        assert share > (0.95 if k < 100 else 0.7)

    @pytest.mark.parametrize("k", [1, 20])
    def test_noise_is_chance(self, k: int) -> None:
        shares = [right(held_out(x, y, f), y).mean() for x, y, f in (data(60, k, 0.0, seed) for seed in range(60))]
        middle, error = np.mean(shares), np.std(shares) / np.sqrt(len(shares))
        assert abs(middle - 0.5) < 0.05, (middle, error)

    def test_what_marks_a_family_alone_does_not_help(self) -> None:
        """Each family has a feature of its own that says its kind: worthless for the families that are held out."""
        y = np.repeat([0, 1] * 10, 4)
        families = [f"f{at // 4}" for at in range(80)]
        x = np.zeros((80, 20))
        for at in range(80):
            x[at, at // 4] = 1.0
        seen = logistic(x, y)
        assert right(x @ seen[0] + seen[1], y).mean() == 1.0
        assert right(held_out(x, y, families, folds=20), y).mean() <= 0.55

    def test_a_family_of_both_kinds_is_held_out_with_both(self) -> None:
        """The feature is the kind plus the family's own level, learnt only if one of the two is seen in training."""
        rng = np.random.default_rng(0)
        families = [f"f{at // 2}" for at in range(40)]
        y = np.arange(40) % 2
        level = np.repeat(10.0 * rng.standard_normal(20), 2)
        assert right(held_out((level + 0.1 * y)[:, None], y, families), y).mean() < 0.7

    def test_features_of_no_use_at_all(self) -> None:
        y = np.arange(20) % 2
        families = [f"{kind}{at // 4}" for at, kind in enumerate(y)]
        assert right(held_out(np.ones((20, 2)), y, families), y).mean() == pytest.approx(0.5, abs=0.2)

    def test_two_families_of_each_kind_are_needed(self) -> None:
        with pytest.raises(BadData, match="kind 1 has 1 families"):
            held_out(np.ones((6, 1)), np.array([0, 0, 0, 0, 1, 1]), ["a", "a", "b", "b", "c", "c"])

    def test_a_tie_is_half_right(self) -> None:
        assert right(np.array([0.0, 1.0, -1.0, 1.0]), np.array([1, 1, 1, 0])).tolist() == [0.5, 1.0, 0.0, 0.0]


def questions() -> list[Question]:
    texts = ("Which way, left or right?", "So", "A or B, please", "Tell me")
    return [
        Question(f"q{n}", f"f{n}", f"g{n}", "choices", Prompt(text, "Answer:"), ("red", "blue"), 0)
        for n, text in enumerate(texts)
    ]


class TestFeatures:
    @pytest.mark.parametrize("kind", ["llama", "gemma3"])
    def test_gates_are_a_times_what_enters_at_the_prompts_end(self, kind) -> None:
        model = fake(kind)
        lora = Lora("1.mlp", 2).start(model, 3)
        moved = Intervention(
            {s: LowRank(d.a, 0.3 * torch.ones_like(d.b), d.scale) for s, d in lora.deltas.items()}, "answer"
        )
        found = Features().look(model, [moved], questions(), lambda _: None).numbers["x"]
        assert found.shape == (4, 6)
        rows = [Row(r.prompt, r.options[0][0][:1]) for r in (model.render(q, "raw") for q in questions())]
        for number, row in enumerate(rows):
            expected = []
            with moved.on(model):
                for site, delta in sorted(moved.deltas.items()):
                    with model.running([row], plain=True) as ready:
                        x = hooks.input_of(model.module(site), ready.forward)
                    expected.append(x[0, len(row.prompt) - 1] @ delta.a.T)
            assert torch.allclose(found[number], torch.cat(expected), atol=1e-5)
        assert hooks.hook_count(model.net) == 0
        assert model.untouched

    def test_the_adapter_is_attached_while_it_is_read(self) -> None:
        """In a block above its first module an adapter reads what it has itself changed."""
        model = fake("llama")
        start = Lora("1.mlp", 1).start(model, 0)
        row = [Row((5, 6, 7), (8,))]
        before = gates(model, start, row)
        moved = Intervention(
            {s: LowRank(d.a, torch.ones_like(d.b), d.scale) for s, d in start.deltas.items()}, "answer"
        )
        after = gates(model, moved, row)
        where = [s.part for s in sorted(start.deltas)]
        for at, part in enumerate(where):
            assert torch.equal(before[:, at], after[:, at]) == (part != "mlp.down_proj"), part

    def test_a_sites_own_output(self) -> None:
        model = fake("llama")
        found = Features("2").look(model, [], questions(), lambda _: None).numbers["x"]
        assert found.shape == (4, 32)
        one = Features("2").look(model, [], questions()[:1], lambda _: None).numbers["x"]
        assert torch.allclose(one[0], found[0], atol=1e-5)

    def test_what_it_refuses(self) -> None:
        model = fake("llama")
        with pytest.raises(BadData, match="no questions"):
            Features("2").look(model, [], [], lambda _: None)
        for given in ([], [Intervention({Site(1): Constant(torch.ones(32))}, "answer")]):
            with pytest.raises(BadData, match="low-rank"):
                Features().look(model, given, questions(), lambda _: None)


class TestWeights:
    def test_tensors_end_to_end(self) -> None:
        model = fake("llama")
        made = Lora("1.mlp", 2, 8.0).start(model, 0)
        seen = Weights().look(model, [made], (), lambda _: None).numbers
        assert torch.equal(seen["a"], torch.cat([d.a.flatten() for _, d in sorted(made.deltas.items())]))
        assert seen["b"].shape == (sum(d.b.numel() for d in made.deltas.values()),)
        assert float(seen["norm"]) == 0
        v = torch.arange(4.0)
        seen = Weights().look(model, [Intervention({Site(1): Constant(v)}, "answer")], (), lambda _: None).numbers
        assert seen["b"].tolist() == v.tolist()
        assert len(seen["a"]) == 0
        with pytest.raises(BadData, match="one with deltas"):
            Weights().look(model, [], (), lambda _: None)
