"""Truth planted in a tiny model: an adapter that adds one constant direction, and one whose gate turns with the token.

The model has two hidden units of which it is known what they do: one is the same at every token, the other is above zero
where a choice or a statement begins and below zero elsewhere. An adapter that reads the first is a vector; one that reads the second
is none, though it moves the same answers. Whatever is planted stands in place of training alone: distilling, scrambling, pinning,
dosing, asking and judging are real.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file, save_file

from selfaware import spec
from selfaware.comparisons.instrument import Check
from selfaware.domains import loader
from selfaware.experiments import run
from selfaware.interventions.base import Intervention, LowRank
from selfaware.interventions.given import given
from selfaware.interventions.lora import Lora
from selfaware.models import fake, hub
from selfaware.report.page import Page
from selfaware.stages import Bench
from selfaware.store import Store
from selfaware.types import Polarity, Site

Gate = Literal["constant", "turning"]
UNIT = {"constant": 0, "turning": 1}
STARTS = "lst"
"""Last letters of the toy domain's prompts: after them the answer begins."""
STRONG = 250.0
"""Enough to decide every choice: the hidden units that are read are of size 0.1."""
SMALL = {
    "shared.lora.site": "1.mlp.down_proj", "shared.vector.site": "1", "shared.seeds": "0,1,2", "shared.limit": "0", "shared.passages": "3",
}  # fmt: skip


WIDER = {"shared.wider.site": "1.mlp"}


def quiet(done: float, total: float, label: str) -> None:
    pass


def plant(folder: Path, attention: bool) -> None:
    """A random Llama with a dimension that is the same at every token and one that tells the places where an answer begins.

    Args:
        attention: False leaves it out of the first two blocks: it gives all tokens a common part, which any random gate reads.
    """
    fake.write("llama", folder)
    words, file = fake.tokenizer("llama"), folder / "model.safetensors"
    state = load_file(file)
    embedding = state["model.embed_tokens.weight"]
    embedding[:, 0], embedding[:, 1] = 1.0, -0.3
    for letter in STARTS:
        embedding[words(letter, add_special_tokens=False).input_ids[0], 1] = 1.0
    state["lm_head.weight"][:, :2] = 0
    for block in range(4):
        at = f"model.layers.{block}"
        state[f"{at}.self_attn.o_proj.weight"][: 2 if attention or block > 1 else None] = 0
        state[f"{at}.mlp.down_proj.weight"][:2] = 0
        state[f"{at}.mlp.down_proj.weight"][:, :2] = 0
        for part in ("gate_proj", "up_proj"):
            state[f"{at}.mlp.{part}.weight"][:2] = 0
            state[f"{at}.mlp.{part}.weight"][:, :2] = 0
        state[f"{at}.mlp.gate_proj.weight"][:2, 0] = 1.0
        state[f"{at}.mlp.up_proj.weight"][0, 0] = state[f"{at}.mlp.up_proj.weight"][1, 1] = 0.2
        state[f"{at}.post_attention_layernorm.weight"][:2] = 1.0
    save_file(state, file, metadata={"format": "pt"})


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """Both models, by whether there is attention throughout."""
    folder = tmp_path_factory.mktemp("models")
    for attention in (True, False):
        plant(folder / f"planted-{attention}", attention)
    return {attention: folder / f"planted-{attention}" for attention in (True, False)}


@pytest.fixture
def bench(models: dict[bool, Path], tmp_path: Path) -> Bench:
    return benched(models[True], tmp_path)


@pytest.fixture
def varied(models: dict[bool, Path], tmp_path: Path) -> Bench:
    """The model in which tokens have little in common."""
    return benched(models[False], tmp_path)


def benched(folder: Path, at: Path) -> Bench:
    return Bench(hub.locate(str(folder), at / "cache"), Store(at / "runs"), "float32", cache_gib=0.05)


Fit = Callable[..., Intervention]


def towards(model: Any) -> torch.Tensor:
    """The direction that speaks for `red` against `blue`, of length 1."""
    red, blue = (model.tokenizer(w, add_special_tokens=False).input_ids[0] for w in (" r", " b"))
    v = (model.head.weight[red] - model.head.weight[blue]).detach().float()
    return v / v.norm()


def planting(gate: Gate, size: float = 1.0, noise: float = 0.02, direction: Callable[[Any, int], torch.Tensor] | None = None) -> Fit:  # fmt: skip
    """A fit that writes that direction, or another by model and seed, at the adapter's block, as strongly as its gate fires."""

    def fit(
        self: Lora, model: Any, examples: Any, polarity: Polarity, seed: int, given: Sequence[Any], on_step: Any
    ) -> Intervention:
        block = 1 if self.site == "all-linear" else Site.parse(self.site).block
        site, generator = Site(block, "mlp.down_proj"), torch.Generator().manual_seed(seed)
        module = model.module(site)
        a, b = torch.zeros(self.rank, module.in_features), torch.zeros(module.out_features, self.rank)
        a[0, UNIT[gate]] = 1.0
        v = direction(model, seed) if direction else towards(model)
        b[:, 0] = v + noise * torch.randn(len(v), generator=generator)
        return Intervention({site: LowRank(a, b if polarity == "high" else -b, size)}, self.positions)

    return fit


@pytest.fixture
def usable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions that have passed their own check, which a random model's cannot."""
    monkeypatch.setattr(Check, "sensitive", True)


def answers(
    monkeypatch: pytest.MonkeyPatch, bench: Bench, domain: loader.Domain, name: str, fit: Fit, **more: str
) -> tuple[dict[str, str], Page]:
    """The answer to each claim of an experiment whose adapters are planted."""
    monkeypatch.setattr(Lora, "fit", fit)
    page, _ = run.execute(bench, run.plan(name, bench, domain, "smoke", {**SMALL, **more}), quiet, [])
    assert page.failures == ()
    return {v.claim: v.answer for v in page.verdicts}, page


def value(page: Page, measure: str, method: str, **where: Any) -> float:
    """The one number of that measure and method."""
    (row,) = [
        r for r in page.rows if r.measure == measure and r.method.startswith(method) and all(getattr(r, k) == v for k, v in where.items())
    ]  # fmt: skip
    assert row.value is not None, row
    return row.value


@pytest.mark.usefixtures("usable")
class TestNaturalVector:
    def test_a_constant_direction_is_recovered_whole_and_its_removal_undoes_it(
        self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain
    ) -> None:
        got, page = answers(monkeypatch, bench, toy, "natural-vector", planting("constant", STRONG), **WIDER)
        told = {v.claim: v for v in page.verdicts}
        assert got["recovers-behaviour"] == "yes", told["recovers-behaviour"]
        assert got["recovers-wider"] == "yes", told["recovers-wider"]
        assert got["removal-undoes"] == "yes", told["removal-undoes"]
        assert value(page, "recovered_behaviour", "mean vector of LoRA rank 2") == pytest.approx(1.0, abs=0.15)

    def test_a_turning_gate_is_not_recovered_by_a_constant(
        self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain
    ) -> None:
        got, page = answers(monkeypatch, bench, toy, "natural-vector", planting("turning", STRONG), **WIDER)
        told = {v.claim: v for v in page.verdicts}
        assert got["recovers-behaviour"] == "no", told["recovers-behaviour"]
        assert got["recovers-wider"] == "no", told["recovers-wider"]

    def test_nothing_planted_is_unclear(
        self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain
    ) -> None:
        none = planting("constant", 0.01, 0.0, random_direction)
        got, _ = answers(monkeypatch, bench, toy, "natural-vector", none, **WIDER)
        assert "yes" not in got.values()
        assert got["recovers-behaviour"] == "unclear"


def random_direction(model: Any, seed: int) -> torch.Tensor:
    """Another direction for every seed."""
    v = torch.randn(model.width, generator=torch.Generator().manual_seed(100 + seed))
    return v / v.norm()


class TestIsItAVector:
    def test_constant_and_turning(self, monkeypatch: pytest.MonkeyPatch, varied: Bench, toy: loader.Domain) -> None:
        more = {"shared.wider.site": "1.mlp", "texts": "6", "shared.seeds": ",".join(map(str, range(10)))}
        got, page = answers(monkeypatch, varied, toy, "is-it-a-vector", planting("constant"), **more)
        told = {v.claim: v for v in page.verdicts}
        assert got["constant-direction"] == "yes", told["constant-direction"]
        own = value(page, "pairwise_cosine", "LoRA rank 2, 1.mlp", site="1", questions="passages")
        untrained = value(page, "pairwise_cosine", "untrained", site="1", questions="passages")
        assert own > 0.99
        assert untrained < 0.9
        share = value(page, "sign_share", "LoRA rank 1", questions="passages")
        assert share == pytest.approx(1.0)

    def test_turning(self, monkeypatch: pytest.MonkeyPatch, varied: Bench, toy: loader.Domain) -> None:
        more = {"shared.wider.site": "1.mlp", "texts": "6", "shared.seeds": ",".join(map(str, range(10)))}
        got, page = answers(monkeypatch, varied, toy, "is-it-a-vector", planting("turning"), **more)
        assert got["constant-direction"] == "no", page.verdicts
        assert value(page, "sign_share", "LoRA rank 1", questions="passages") < 0.95


@pytest.mark.usefixtures("usable")
class TestWhereItActs:
    def test_a_direction_that_both_sets_read_has_one_profile(
        self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain
    ) -> None:
        more = {"every": "1", "doublings": "5", "weakest": "0.005", "items": "12"}
        got, page = answers(monkeypatch, bench, toy, "where-it-acts", planting("constant", STRONG), **more)
        told = {v.claim: v for v in page.verdicts}
        assert got["same-profile"] == "yes", told["same-profile"]
        where: dict[str, Any] = {"questions": "self", "kind": "shift"}
        own = [r.value or 0 for r in page.rows if r.measure == "peak_shift" and r.questions == where["questions"]]
        random = [r.value or 0 for r in page.rows if r.measure == "random_peak_shift" and r.questions == "self"]
        assert min(own) > 2 * max(random)

    def test_a_random_direction_has_no_profile_to_speak_of(
        self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain
    ) -> None:
        more = {"every": "1", "doublings": "3", "items": "12"}
        fit = planting("constant", STRONG, 0.0, random_direction)
        got, _ = answers(monkeypatch, bench, toy, "where-it-acts", fit, **more)
        assert got["same-profile"] != "yes"

    def test_a_gate_that_is_shut_on_neutral_text_hides_its_direction(
        self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain
    ) -> None:
        """Read off neutral text the direction comes out turned round, and moves answers the other way."""
        more = {"every": "1", "doublings": "5", "weakest": "0.005", "items": "12"}
        got, page = answers(monkeypatch, bench, toy, "where-it-acts", planting("turning", STRONG), **more)
        told = {v.claim: v for v in page.verdicts}
        assert got["same-profile"] != "yes", told["same-profile"]


class TestDomainLocality:
    @pytest.mark.parametrize("gate", UNIT)
    @pytest.mark.parametrize(("alike", "answer"), [(0.0, "yes"), (0.9, "no")])
    def test_directions_as_planted(
        self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain, alike: float, answer: str, gate: Gate
    ) -> None:
        """Toy's direction, and for the other domain one that has that cosine with it."""
        own = toy.questions("choices", "train")

        def fit(self: Lora, model: Any, examples: Any, *rest: Any) -> Intervention:
            v = towards(model)
            if examples[0].id not in {q.id for q in own}:
                other = random_direction(model, 7)
                other = other - (other @ v) * v
                v = alike * v + (1 - alike**2) ** 0.5 * other / other.norm()
            return planting(gate, STRONG, 0.005, lambda *_: v)(self, model, examples, *rest)

        got, page = answers(monkeypatch, bench, toy, "domain-locality", fit, beside="near_or_far", draws="500")
        told = {v.claim: v for v in page.verdicts}
        assert got["unrelated-directions"] == answer, told["unrelated-directions"]

    def test_seeds_that_do_not_agree_are_unclear(
        self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain
    ) -> None:
        fit = planting("constant", STRONG, 0.0, random_direction)
        got, page = answers(monkeypatch, bench, toy, "domain-locality", fit, beside="near_or_far", draws="500")
        assert got["unrelated-directions"] == "unclear", page.verdicts


def test_the_audit_finds_the_same_without_a_fit(
    monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain, tmp_path: Path
) -> None:
    """The toy domain has six topics to test on, too few for narrow intervals of shares: numbers where verdicts must stay unclear."""
    told: dict[str, dict[str, str]] = {}
    share: dict[str, float] = {}
    cosine: dict[str, float] = {}
    for gate in UNIT:
        recipe = Lora(site="1.mlp.down_proj", rank=2, positions="all")
        monkeypatch.setattr(Lora, "fit", planting(gate, 80.0))  # type: ignore[arg-type]
        made = recipe.fit(bench.model("float32"), toy.questions("choices", "train"), "high", 0, (), lambda *_: None)
        path = tmp_path / f"{gate}.safetensors"
        made.save(path)
        named = {f"given.{n}": str(v) for n, v in spec.plain(given(path)).items() if n != "is"}
        more = {"limit": "0", "mechanism.texts": "6", "mechanism.every": "1", "mechanism.items": "12"}
        page, _ = run.execute(bench, run.plan("audit", bench, toy, "smoke", {**named, **more}), quiet, [])
        assert page.failures == ()
        told[gate] = {v.claim: v.answer for v in page.verdicts}
        share[gate] = value(page, "choice_share_effect", "its mean vector")
        cosine[gate] = value(page, "pairwise_cosine", "given", questions="passages", site="1")
        assert value(page, "choice_share_effect", "given") > 0.2
        assert value(page, "choice_share_effect", "its direction pinned") == pytest.approx(0.0, abs=0.05)
    assert share["constant"] > 0.3
    assert share["turning"] < 0.1
    assert cosine["constant"] > 0.99
    assert told["turning"]["one-direction"] == "no"
    assert told["constant"]["one-direction"] != "no"
    assert told["constant"]["hides-when-asked"] == "unclear", "the toy domain presses nobody"
