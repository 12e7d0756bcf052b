"""What somebody else made: it acts as it did there, its cell follows its content, and what cannot be meant is refused."""

import json
import math
import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor

from selfaware import spec
from selfaware.errors import BadData, BadFile, BadModel, SelfawareError, UnknownName
from selfaware.interventions.base import Constant, Intervention, LowRank, Recipe
from selfaware.interventions.given import Given, given
from selfaware.interventions.lora import Lora
from selfaware.interventions.peft_io import CONFIG, WEIGHTS, export
from selfaware.interventions.steer import Vector
from selfaware.interventions.train import Training
from selfaware.models import hooks
from selfaware.models.batch import Row
from selfaware.models.fake import FAKES, Fake, fake
from selfaware.models.hf import Model
from selfaware.store import Store, write_json
from selfaware.types import Prompt, Question, Site

LLAMA = fake("llama")
ROWS = [Row((5, 6, 7, 8), (9, 10)), Row((8, 9), (11,)), Row((30, 31, 99), (7, 8, 12))]
TRAIN = Training(learning_rate=0.05, epochs=2, batch=2)
EXAMPLES = [
    Question(w, w, w, "train", Prompt(f"The {w}?", "It is"), ("red", "blue"), 0) for w in ("lamp", "tree", "road")
]


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def fit(recipe: Recipe, polarity: Any = "high", model: Model = LLAMA, seed: int = 0) -> Intervention:
    return recipe.fit(model, EXAMPLES, polarity, seed, [], lambda *_: None)


def numbers(intervention: Intervention | None = None, model: Model = LLAMA) -> Tensor:
    with torch.no_grad():
        if intervention is None:
            return model.logprobs(ROWS)
        with intervention.on(model):
            return model.logprobs(ROWS)


def vectors(path: Path, **tensors: Tensor) -> Path:
    save_file({name: t.contiguous() for name, t in tensors.items()}, path)
    return path


def file(path: Path, tensors: Mapping[str, Tensor]) -> Path:
    return vectors(path, **tensors)


# adapters ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [k for k in FAKES if k != "gpt2"])
@pytest.mark.parametrize(("site", "rank"), [("2.mlp.down_proj", 1), ("all-linear", 3)])
def test_an_exported_adapter_acts_as_the_one_it_was_made_of(kind: Fake, site: str, rank: int, tmp_path: Path) -> None:
    model = fake(kind)
    made = fit(Lora(site, rank, 16.0, positions="all", training=TRAIN), model=model)
    export(made, tmp_path / "peft", model)
    made.save(tmp_path / "delta.safetensors")
    wanted = numbers(made, model)
    assert float((wanted - numbers(model=model)).abs().max()) > 0.01
    for path in (tmp_path / "peft", tmp_path / "delta.safetensors", tmp_path):
        back = fit(given(path), model=model, seed=7)
        assert back.positions == "all"
        assert set(back.deltas) == set(made.deltas)
        torch.testing.assert_close(numbers(back, model), wanted, atol=1e-5, rtol=1e-5)
    assert hooks.hook_count(model.net) == 0


def test_an_adapter_by_peft_itself_acts_as_in_peft(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = get_peft_model(fake("llama").net, LoraConfig(r=3, lora_alpha=5, target_modules=["q_proj", "down_proj"]))
        with torch.no_grad():
            for name, weight in net.named_parameters():
                if "lora_B" in name:
                    weight.copy_(0.3 * torch.randn(weight.shape))
    net.save_pretrained(str(tmp_path))
    ids = torch.tensor([[5, 30, 31, 99, 150, 7, 8]])
    with torch.no_grad():
        wanted = net.eval()(input_ids=ids).logits
        with fit(given(tmp_path)).on(LLAMA):
            got = LLAMA.net(input_ids=ids).logits
    torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4)


def test_strength_and_polarity_of_an_adapter(tmp_path: Path) -> None:
    made = fit(Lora("1.mlp", 2, 16.0, positions="all", training=TRAIN))
    export(made, tmp_path, LLAMA)
    high = fit(given(tmp_path, strength=0.25))
    low = fit(given(tmp_path, strength=0.25), "low")
    for site, delta in made.deltas.items():
        up, down = high.deltas[site], low.deltas[site]
        assert isinstance(delta, LowRank) and isinstance(up, LowRank) and isinstance(down, LowRank)
        torch.testing.assert_close(up.scale * up.b @ up.a, 0.25 * delta.scale * delta.b @ delta.a)
        torch.testing.assert_close(down.scale * down.b @ down.a, -0.25 * delta.scale * delta.b @ delta.a)
        assert torch.equal(down.a, up.a)
        x, y = noise(0, 1, 5, up.a.shape[1]), noise(1, 1, 5, up.b.shape[0])
        torch.testing.assert_close(up(x, y) + down(x, y), 2 * y)
        torch.testing.assert_close(up(x, y) - y, 0.25 * (delta(x, y) - y))


def test_an_adapter_may_be_measured_at_other_positions(tmp_path: Path) -> None:
    made = fit(Lora("1.mlp.down_proj", 1, 16.0, positions="all", training=TRAIN))
    export(made, tmp_path, LLAMA)
    named = given(tmp_path, positions="answer")
    assert named != given(tmp_path)
    torch.testing.assert_close(numbers(fit(named)), numbers(Intervention(made.deltas, "answer")))


# files and cells of our own ------------------------------------------------------------------------------------------


def own(path: Path, positions: Any = "answer") -> Intervention:
    deltas = {Site(1, "mlp.down_proj"): LowRank(noise(0, 2, 64), noise(1, 32, 2), 0.5), Site(2): Constant(noise(2, 32))}
    made = Intervention(deltas, positions, {"seed": 3})
    made.save(path)
    return made


def test_a_file_of_our_own_says_its_sites_and_positions(tmp_path: Path) -> None:
    made = own(tmp_path / "delta.safetensors")
    for path in (tmp_path, tmp_path / "delta.safetensors"):
        named = given(path)
        assert (named.positions, named.site, named.holds) == ("answer", "", "adapter")
        assert torch.equal(numbers(fit(named)), numbers(made))
        with pytest.raises(BadData, match=r"site '2'; one of our own files names its own\. Leave"):
            given(path, site="2")
        with pytest.raises(BadData, match=r"positions 'all'; its header says 'answer'.*Leave them out"):
            given(path, positions="all")
        for wrong, message in (
            (replace(named, positions="all"), "its header says 'answer'"),
            (replace(named, site="2"), "names its own"),
            (replace(named, holds="vector"), "it holds a given adapter"),
        ):
            with pytest.raises(BadData, match=message):
                fit(wrong)
    assert fit(named).provenance["of"] == {"seed": 3}


def test_a_trained_vectors_file_and_its_reverse(tmp_path: Path) -> None:
    made = fit(Vector("2.mlp.residual", positions="last_prompt", training=TRAIN))
    made.save(tmp_path / "delta.safetensors")
    named = given(tmp_path, strength=2)
    assert (named.positions, named.holds) == ("last_prompt", "vector")
    v = made.deltas[Site(2, "mlp")].tensors()["v"]
    for polarity, sign in (("high", 2), ("low", -2)):
        back = fit(named, polarity)
        assert (list(back.deltas), back.positions) == ([Site(2, "mlp")], "last_prompt")
        assert torch.equal(back.deltas[Site(2, "mlp")].tensors()["v"], sign * v)


def test_a_cell_whose_files_are_damaged_is_refused(tmp_path: Path) -> None:
    cell = Store(tmp_path).cell("abc")
    write_json(cell.path("env.json"), {})
    own(cell.path("delta.safetensors"))
    cell.finish()
    named = given(cell.folder)
    assert torch.equal(numbers(fit(named)), numbers(own(tmp_path / "same")))
    held = bytearray(cell.path("delta.safetensors").read_bytes())
    held[-1] ^= 1
    cell.path("delta.safetensors").write_bytes(held)
    for use in (lambda: given(cell.folder), lambda: fit(named)):
        with pytest.raises(BadFile, match=r"its checksum is .* as written, is needed"):
            use()


@pytest.mark.parametrize(("value", "message"), [(float("nan"), "1 values of tensor 2/v"), (float("inf"), "not finite")])
def test_our_own_with_values_that_are_not_finite(tmp_path: Path, value: float, message: str) -> None:
    v = noise(0, 32)
    v[3] = value
    Intervention({Site(2): Constant(v)}, "all").save(tmp_path / "delta.safetensors")
    with pytest.raises(BadFile, match=message):
        given(tmp_path)


def test_our_own_that_adds_nothing(tmp_path: Path) -> None:
    low = LowRank(torch.ones(1, 64), torch.zeros(32, 1), 1.0)
    for deltas in ({Site(2): Constant(torch.zeros(32))}, {Site(1, "mlp.down_proj"): low}, {}):
        Intervention(deltas, "all").save(tmp_path / "delta.safetensors")
        with pytest.raises(BadFile, match=r"delta.safetensors: adds nothing"):
            given(tmp_path)


def test_our_own_of_another_model(tmp_path: Path) -> None:
    own(tmp_path / "delta.safetensors")
    with pytest.raises(BadModel, match=r"site .*\(32, 2\).*needs .*\(64, 2\)"):
        fit(given(tmp_path), model=fake("llama", width=64))
    Intervention({Site(9): Constant(torch.ones(32))}, "all").save(tmp_path / "delta.safetensors")
    with pytest.raises(UnknownName, match="4 blocks"):
        fit(given(tmp_path))


# bare vectors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(32,), (1, 32)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_a_bare_vector_is_added_where_it_is_told(tmp_path: Path, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    v = noise(0, 32).to(dtype)
    path = vectors(tmp_path / "their.safetensors", direction=v.reshape(shape))
    made = fit(given(path, "2", strength=1.5))
    assert (made.positions, list(made.deltas)) == ("all", [Site(2)])
    torch.testing.assert_close(made.deltas[Site(2)].tensors()["v"], 1.5 * v.float())
    torch.testing.assert_close(fit(given(path, "2"), "low").deltas[Site(2)].tensors()["v"], -v.float())
    by_hand = Intervention({Site(2): Constant(1.5 * v.float())}, "all")
    assert torch.equal(numbers(made), numbers(by_hand))
    assert fit(given(path, "1.mlp", "last_prompt")).positions == "last_prompt"


@pytest.mark.parametrize(("kind", "resolved"), [("llama", "mlp"), ("gemma3", "mlp.residual")])
def test_a_bare_vectors_site_is_resolved(tmp_path: Path, kind: Fake, resolved: str) -> None:
    path = vectors(tmp_path / "v.safetensors", v=noise(0, 32))
    assert list(fit(given(path, " 1.mlp.residual"), model=fake(kind)).deltas) == [Site(1, resolved)]
    assert given(path, " 1.mlp.residual ").site == "1.mlp.residual"


@pytest.mark.parametrize(
    "name", ["layer_{}", "{}", "blocks.{}", "model.layers.{}.mlp", "transformer.h.{}", "v2_Layer{}", "L{}"]
)
def test_a_site_picks_its_own_block_of_several(tmp_path: Path, name: str) -> None:
    path = file(tmp_path / "v.safetensors", {name.format(b): noise(b, 32) for b in (12, 3, 2, 1)})
    for block in (1, 2, 3):
        for site in (str(block), f"{block}.mlp"):
            made = fit(given(path, site))
            assert list(made.deltas) == [Site.parse(site)]
            assert torch.equal(made.deltas[Site.parse(site)].tensors()["v"], noise(block, 32))
            assert made.provenance["of"] == {"tensor": name.format(block)}
    listed = ", ".join(f"{name.format(b)} (32,)" for b in (1, 2, 3, 12))
    with pytest.raises(UnknownName, match=re.escape(f"there are {listed}.")):
        given(path)
    with pytest.raises(UnknownName, match=r"no vector for site 0; .*there are "):
        given(path, "0")


def test_names_that_are_sites_are_those_sites_alone(tmp_path: Path) -> None:
    held = {"1": noise(1, 32), "1.mlp": noise(2, 32), "2.self_attn": noise(3, 32), "both_2_3": noise(4, 32)}
    path = file(tmp_path / "v.safetensors", held)
    for site, seed in (("1", 1), ("1.mlp", 2), ("2.self_attn", 3)):
        assert torch.equal(fit(given(path, site)).deltas[Site.parse(site)].tensors()["v"], noise(seed, 32))
    for site in ("2", "2.mlp", "3"):
        with pytest.raises(UnknownName, match=f"no vector for site {site}; .*1.mlp"):
            given(path, site)
    twice = file(tmp_path / "w.safetensors", {"layer_1_a": noise(1, 32), "layer_1_b": noise(2, 32)})
    with pytest.raises(UnknownName, match=r"got 2 vectors for site 1; exactly one.*layer_1_a \(32,\), layer_1_b"):
        given(twice, "1")


def test_only_the_vector_that_is_picked_must_be_sound(tmp_path: Path) -> None:
    held = {"layer_1": noise(1, 32), "layer_2": torch.full((32,), float("nan")), "layer_3": torch.ones(2, 5)}
    path = file(tmp_path / "v.safetensors", held)
    assert fit(given(path, "1")).norm() > 0
    for site in ("2", "3"):
        with pytest.raises(BadFile, match=f"layer_{site}"):
            given(path, site)


@pytest.mark.parametrize(
    ("tensors", "site", "error", "message"),
    [
        ({"v": torch.ones(32)}, "", BadData, r"v, without a site; .* site='15', or a part, such as site='15\.mlp'"),
        ({"v": torch.ones(32)}, "fifteen", UnknownName, "site 'fifteen': not a site"),
        ({"layer_3": torch.ones(32)}, "2", BadData, "tensor layer_3 is named for block 3; site 2 is another"),
        ({"v": torch.zeros(32)}, "2", BadFile, r"tensor v \(32,\) is all zero"),
        ({"v": torch.tensor([1.0, math.nan])}, "2", BadFile, r"1 values of tensor v \(2,\) are not finite"),
        ({"v": torch.tensor([1e300, 1.0], dtype=torch.float64)}, "2", BadFile, "not finite"),
        ({"v": torch.ones(4, 32)}, "2", BadFile, r"tensor v is \(4, 32\) of float32; one vector \(D,\) or \(1, D\)"),
        ({"v": torch.ones(1, 1, 32)}, "2", BadFile, r"\(1, 1, 32\)"),
        ({"v": torch.tensor(1.0)}, "2", BadFile, r"tensor v is \(\)"),
        ({"v": torch.ones(0)}, "2", BadFile, r"\(0,\)"),
        ({"v": torch.ones(32, dtype=torch.int64)}, "2", BadFile, "of int64; .* floating-point"),
        ({}, "2", BadFile, "got no tensor"),
        ({"a.lora_A.weight": torch.ones(1, 32)}, "2", BadFile, r"a\.lora_A\.weight .*the folder that PEFT saved"),
    ],
)
def test_bare_vectors_that_are_refused_when_they_are_named(
    tmp_path: Path, tensors: dict[str, Tensor], site: str, error: type[SelfawareError], message: str
) -> None:
    path = file(tmp_path / "their.safetensors", tensors)
    with pytest.raises(error, match=message):
        given(path, site)


def test_bare_vectors_that_do_not_fit_the_model(tmp_path: Path) -> None:
    path = vectors(tmp_path / "their.safetensors", direction=torch.ones(48))
    with pytest.raises(BadModel, match=r"their.safetensors, tensor direction: site 2: .*v \(48,\).*needs v \(32,\)"):
        fit(given(path, "2"))
    with pytest.raises(UnknownName, match="4 blocks"):
        fit(given(path, "7"))
    with pytest.raises(UnknownName, match=r"2\.mlp\.gate_proj"):
        fit(given(path, "2.mlp.gate"))
    assert fit(given(vectors(path, v=torch.ones(64)), "2.mlp.up_proj")).norm() == pytest.approx(8)


# what it is, and that it stays so ------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".pkl", ".PT"])
def test_formats_of_torch_load_are_refused_unopened(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"vector{suffix}"

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.write_text, (tmp_path / "ran", "it ran"))

    path.write_bytes(pickle.dumps(Trap()))
    named_otherwise = path.rename(tmp_path / "vector.safetensors")
    torch.save({"v": torch.ones(32)}, path)
    (tmp_path / "folder").mkdir()
    torch.save({}, tmp_path / "folder" / f"adapter_model{suffix}")
    (tmp_path / "folder" / CONFIG).write_text("{}")
    for got in (path, named_otherwise, tmp_path / "folder"):
        with pytest.raises(BadFile, match=r"safetensors only.*save_file\("):
            given(got, "" if got.is_dir() else "2")
    with pytest.raises(BadFile, match=f"got a {suffix} file"):
        given(path, "2")
    assert not (tmp_path / "ran").exists()


def test_the_advice_on_converting_works(tmp_path: Path) -> None:
    torch.save(noise(0, 32), tmp_path / "v.pt")
    v = torch.load(tmp_path / "v.pt", weights_only=True)
    save_file({"15": v.contiguous()}, tmp_path / "vector.safetensors")
    with pytest.raises(UnknownName, match="4 blocks"):
        fit(given(tmp_path / "vector.safetensors", "15"))


def test_paths_with_nothing_to_use(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="there is no such file or folder"):
        given(tmp_path / "none")
    with pytest.raises(BadFile, match=rf"no delta\.safetensors, or {CONFIG} and {WEIGHTS} in it"):
        given(tmp_path)
    export(fit(Lora("1.mlp.down_proj", 1, positions="all", training=TRAIN)), tmp_path, LLAMA)
    with pytest.raises(BadFile, match="its config is needed too"):
        given(tmp_path / WEIGHTS)
    with pytest.raises(BadData, match="a PEFT adapter names its own"):
        given(tmp_path, site="1")
    own(tmp_path / "delta.safetensors")
    with pytest.raises(BadFile, match=r"a PEFT adapter and delta\.safetensors; one of them"):
        given(tmp_path)
    assert given(tmp_path / "delta.safetensors").positions == "answer"
    (tmp_path / "delta.safetensors").unlink()
    (tmp_path / CONFIG).rename(tmp_path / "other.json")
    with pytest.raises(BadFile, match=f"no {CONFIG} in it"):
        given(tmp_path)
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / WEIGHTS).read_bytes()[:100])
    with pytest.raises(BadFile, match=r"cut\.safetensors"):
        given(tmp_path / "cut.safetensors", "1")


def cell_id(recipe: Recipe) -> str:
    return spec.digest({"recipe": recipe, "polarity": "high", "seed": 0})


def spoil_weights(folder: Path) -> None:
    held = load_file(folder / WEIGHTS)
    name = next(n for n in held if "lora_B" in n)
    held[name][0] += 1e-6
    save_file(held, folder / WEIGHTS)


def spoil_config(folder: Path) -> None:
    told = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**told, "lora_alpha": told["lora_alpha"] * 2}))


@pytest.mark.parametrize("spoil", [spoil_weights, spoil_config])
def test_a_changed_adapter_is_another_cell_and_the_old_name_is_refused(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    export(fit(Lora("1.mlp.down_proj", 1, positions="all", training=TRAIN)), tmp_path, LLAMA)
    before = given(tmp_path)
    (tmp_path / "README.md").write_text("not part of the content")
    assert given(tmp_path) == before
    spoil(tmp_path)
    after = given(tmp_path)
    assert cell_id(after) != cell_id(before)
    assert fit(after).norm() > 0
    with pytest.raises(BadFile, match=rf"checksum is {after.sha256[:12]}…; {before.sha256[:12]}….*name the new one"):
        fit(before)


def test_a_changed_vector_is_another_cell_and_the_old_name_is_refused(tmp_path: Path) -> None:
    path = vectors(tmp_path / "v.safetensors", v=noise(0, 32))
    before = given(path, "2")
    vectors(path, v=noise(0, 32))
    assert given(path, "2") == before
    vectors(path, v=noise(1, 32))
    assert cell_id(given(path, "2")) != cell_id(before)
    with pytest.raises(BadFile, match="its checksum is"):
        fit(before)
    path.unlink()
    with pytest.raises(BadFile, match="no such file"):
        fit(before)


def test_the_last_block_is_known_without_the_model_and_held_to_in_the_fit(tmp_path: Path) -> None:
    bare = given(vectors(tmp_path / "v.safetensors", v=noise(0, 32)), "2.mlp")
    fit(Vector("1", training=TRAIN)).save(tmp_path / "delta.safetensors")
    folder = tmp_path / "adapter"
    folder.mkdir()
    export(fit(Lora("all-linear", 1, positions="all", training=TRAIN)), folder, LLAMA)
    assert [given(p).block for p in (tmp_path / "delta.safetensors", folder)] == [1, 3]
    assert bare.block == 2
    with pytest.raises(BadData, match="said to reach block 1; it reaches 2"):
        fit(replace(bare, block=1))


def test_without_a_checksum_or_with_an_odd_strength_nothing_is_measured(tmp_path: Path) -> None:
    path = vectors(tmp_path / "v.safetensors", v=noise(0, 32))
    with pytest.raises(BadData, match=r"without a checksum.*Name it with given\(path\)"):
        fit(Given(str(path), site="2"))
    for odd in (math.nan, math.inf):
        with pytest.raises(BadData, match="a finite number"):
            fit(given(path, "2", strength=odd))


def test_it_is_a_recipe_that_is_written_and_built_again(tmp_path: Path) -> None:
    path = vectors(tmp_path / "joy.safetensors", v=noise(0, 32))
    named = given(path, "2", "answer", 2)
    assert isinstance(named, Recipe)
    assert named.needs == ()
    back = spec.build(Given, json.loads(spec.canonical(named)))
    assert back == named
    assert spec.digest(back) == spec.digest(named)
    differing = (given(path, "1", "answer", 2), given(path, "2", "all", 2), given(path, "2", "answer", 3))
    assert len({cell_id(r) for r in (named, *differing)}) == 4


def test_labels_say_what_it_is_also_when_the_file_is_gone(tmp_path: Path) -> None:
    bare = given(vectors(tmp_path / "joy.safetensors", v=noise(0, 32)), "2")
    fit(Vector("1", training=TRAIN)).save(tmp_path / "delta.safetensors")
    (tmp_path / "risky-adapter").mkdir()
    export(fit(Lora("1.mlp.down_proj", 1, positions="all", training=TRAIN)), tmp_path / "risky-adapter", LLAMA)
    adapter, ours = given(tmp_path / "risky-adapter"), given(tmp_path / "delta.safetensors")
    for path in (tmp_path / "joy.safetensors", tmp_path / "delta.safetensors"):
        path.unlink()
    assert bare.label == "given vector joy.safetensors"
    assert adapter.label == "given adapter risky-adapter"
    assert ours.label == f"given vector {tmp_path.name}/delta.safetensors"
    assert fit(adapter).provenance["method"] == adapter.label


def test_the_seed_and_the_examples_change_nothing_and_nothing_is_drawn(tmp_path: Path) -> None:
    path = vectors(tmp_path / "v.safetensors", v=noise(0, 32))
    before = torch.random.get_rng_state()
    one = fit(given(path, "2"), seed=0)
    two = given(path, "2").fit(LLAMA, [], "high", 5, [], lambda *_: None)
    assert torch.equal(one.deltas[Site(2)].tensors()["v"], two.deltas[Site(2)].tensors()["v"])
    assert torch.equal(before, torch.random.get_rng_state())
