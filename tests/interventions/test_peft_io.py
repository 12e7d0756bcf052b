"""PEFT's format against peft itself: what is written there reads the same here, and the other way round."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor

from selfaware.errors import BadData, BadFile, UnknownName
from selfaware.interventions.base import Constant, Intervention, LowRank
from selfaware.interventions.lora import Lora
from selfaware.interventions.peft_io import CONFIG, WEIGHTS, export, positions_matter, read
from selfaware.interventions.train import Training
from selfaware.models.batch import Row
from selfaware.models.fake import FAKES, Fake, fake
from selfaware.models.hf import Model
from selfaware.types import Prompt, Question, Site

IDS = torch.tensor([[5, 30, 31, 99, 150, 7, 8, 9, 11, 12, 13, 14, 90, 91]])
KINDS = tuple(k for k in FAKES if k != "gpt2")
NEAR = 1e-4
TRAIN = Training(learning_rate=0.05, epochs=2, batch=2)


def examples() -> list[Question]:
    return [
        Question(w, w, w, "train", Prompt(f"The {w}?", "It is"), ("red", "blue"), 0) for w in ("lamp", "tree", "road")
    ]


def fitted(model: Model, site: str, rank: int, stabilised: bool = False) -> Intervention:
    recipe = Lora(site, rank, 16.0, stabilised, positions="all", training=TRAIN)
    return recipe.fit(model, examples(), "high", 0, [], lambda *_: None)


def random_lora(model: Model, sites: dict[str, int], scale: float = 0.7) -> Intervention:
    draw = torch.Generator().manual_seed(0)
    deltas = {}
    for site, rank in sites.items():
        module = model.module(Site.parse(site))
        a, b = (
            torch.randn(rank, module.in_features, generator=draw),
            torch.randn(module.out_features, rank, generator=draw),
        )
        deltas[Site.parse(site)] = LowRank(0.3 * a, 0.3 * b, scale * rank)
    return Intervention(deltas, "all")


def logits(model: Model, intervention: Intervention | None = None) -> Tensor:
    with torch.no_grad():
        if intervention is None:
            return model.net(input_ids=IDS).logits
        with intervention.on(model):
            return model.net(input_ids=IDS).logits


def through_peft(kind: Fake, folder: Path) -> Tensor:
    loaded = PeftModel.from_pretrained(fake(kind).net, str(folder))
    with torch.no_grad():
        return loaded.eval()(input_ids=IDS).logits


def made_by_peft(kind: Fake, folder: Path, **settings: Any) -> Tensor:
    """Writes an adapter with random B through peft; its logits."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = get_peft_model(fake(kind).net, LoraConfig(task_type="CAUSAL_LM", **settings))
        with torch.no_grad():
            for name, weight in net.named_parameters():
                if "lora_B" in name or "lora_embedding_B" in name:
                    weight.copy_(0.3 * torch.randn(weight.shape))
    net.save_pretrained(str(folder))
    with torch.no_grad():
        return net.eval()(input_ids=IDS).logits


def apart(a: Tensor, b: Tensor, record: Callable[[str, object], None]) -> float:
    largest = float((a - b).abs().max())
    record("largest difference of logits", largest)
    return largest


# out ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("site", "rank", "stabilised"), [("2.mlp.down_proj", 1, False), ("1.mlp", 4, True), ("all-linear", 2, False)]
)
def test_exported_gives_peft_the_same_logits(
    kind: Fake, site: str, rank: int, stabilised: bool, tmp_path: Path, record_property
) -> None:
    model = fake(kind)
    made = fitted(model, site, rank, stabilised)
    export(made, tmp_path, model)
    got, wanted = through_peft(kind, tmp_path), logits(model, made)
    assert apart(got, wanted, record_property) < NEAR
    assert float((wanted - logits(model)).abs().max()) > 0.05
    back = read(tmp_path, model)
    assert {s: d.a.shape for s, d in back.deltas.items()} == {s: d.a.shape for s, d in made.deltas.items()}
    assert float((logits(model, back) - wanted).abs().max()) < NEAR


def test_exactly_the_trained_modules_are_hit(tmp_path: Path) -> None:
    model = fake("llama", blocks=12)
    export(random_lora(model, {"1.mlp.down_proj": 2}), tmp_path, model)
    net = PeftModel.from_pretrained(fake("llama", blocks=12).net, str(tmp_path))
    assert [n for n, _ in net.named_parameters() if "lora_A" in n] == [
        "base_model.model.model.layers.1.mlp.down_proj.lora_A.default.weight"
    ]
    config = json.loads((tmp_path / CONFIG).read_text())
    assert config["target_modules"] == ["model.layers.1.mlp.down_proj"]
    assert (config["r"], config["lora_alpha"], config["use_rslora"]) == (2, 0.7 * 4, False)
    assert set(load_file(tmp_path / WEIGHTS)) == {
        f"base_model.model.model.layers.1.mlp.down_proj.lora_{x}.weight" for x in "AB"
    }


def test_ranks_and_scales_may_differ(tmp_path: Path, record_property) -> None:
    model = fake("qwen3", blocks=12)
    made = random_lora(
        model, {"1.mlp.down_proj": 2, "11.mlp.down_proj": 2, "2.self_attn.q_proj": 5, "3.mlp.up_proj": 1}
    )
    export(made, tmp_path, model)
    loaded = PeftModel.from_pretrained(fake("qwen3", blocks=12).net, str(tmp_path))
    with torch.no_grad():
        assert apart(loaded(input_ids=IDS).logits, logits(model, made), record_property) < NEAR
    assert {s: d.scale for s, d in read(tmp_path, model).deltas.items()} == pytest.approx(
        {s: d.scale for s, d in made.deltas.items()}
    )


def test_what_peft_has_no_word_for_is_refused(tmp_path: Path) -> None:
    model = fake("llama")
    low = random_lora(model, {"1.mlp.down_proj": 2})
    mixed = Intervention({**low.deltas, Site(2): Constant(torch.ones(32))}, "all")
    for wrong in (mixed, Intervention({Site(2): Constant(torch.ones(32))}, "all"), Intervention({}, "all")):
        with pytest.raises(BadData, match="low-rank deltas only"):
            export(wrong, tmp_path, model)
    for positions in ("answer", "last_prompt"):
        partly = Intervention(low.deltas, positions)
        with pytest.raises(BadData, match=f"'{positions}'.*all_positions=True"):
            export(partly, tmp_path, model)
    assert not list(tmp_path.iterdir())
    export(partly, tmp_path / "made" / "here", model, all_positions=True)
    assert read(tmp_path / "made" / "here", model).positions == "all"
    with pytest.raises(UnknownName):
        export(Intervention({Site(9, "mlp.down_proj"): low.deltas[Site(1, "mlp.down_proj")]}, "all"), tmp_path, model)


# in -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "settings",
    [
        {"r": 1, "lora_alpha": 2, "target_modules": ["down_proj"], "layers_to_transform": [2]},
        {"r": 3, "lora_alpha": 4, "target_modules": "all-linear", "use_rslora": True},
        {
            "r": 4,
            "lora_alpha": 4,
            "target_modules": ["q_proj", "up_proj"],
            "rank_pattern": {"layers.1.mlp.up_proj": 2, r"model\.layers\.[23]\.self_attn\.q_proj": 1},
            "alpha_pattern": {"up_proj": 3},
            "use_rslora": True,
            "init_lora_weights": "gaussian",
        },
        {
            "r": 2,
            "target_modules": r".*\.layers\.[02]\.mlp\..*_proj",
            "lora_dropout": 0.1,
            "exclude_modules": ["gate_proj"],
        },
    ],
    ids=["one module", "all-linear rslora", "patterns", "regex"],
)
def test_peft_adapters_are_read(kind: Fake, settings: dict[str, Any], tmp_path: Path, record_property) -> None:
    wanted, model = made_by_peft(kind, tmp_path, **settings), fake(kind)
    before = torch.random.get_rng_state()
    got = logits(model, read(tmp_path, model))
    assert apart(got, wanted, record_property) < NEAR
    assert float((wanted - logits(model)).abs().max()) > 0.05
    assert torch.equal(before, torch.random.get_rng_state())


def test_scales(tmp_path: Path) -> None:
    made_by_peft("llama", tmp_path, r=4, lora_alpha=6, use_rslora=True, target_modules=["down_proj"])
    back = read(tmp_path, fake("llama"))
    assert {d.scale for d in back.deltas.values()} == {6 / math.sqrt(4)}
    assert back.positions == "all"


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("DoRA", {"use_dora": True}),
        ("trained biases", {"bias": "lora_only"}),
        ("trained biases", {"lora_bias": True}),
        ("modules_to_save", {"modules_to_save": ["lm_head"]}),
        ("embeddings", {"target_modules": ["embed_tokens", "down_proj"]}),
        ("output head", {"target_modules": ["lm_head", "down_proj"]}),
        ("init_lora_weights='pissa'", {"init_lora_weights": "pissa"}),
        ("trainable_token_indices", {"trainable_token_indices": [1, 2]}),
        ("layer_replication", {"layer_replication": [[0, 4], [2, 4]]}),
    ],
)
def test_more_than_plain_lora_is_refused_by_name(name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    made_by_peft("llama", tmp_path, **{"r": 2, "target_modules": ["down_proj"], **settings})
    with pytest.raises(BadData, match=name):
        read(tmp_path, fake("llama"))


def spoilt(folder: Path, tensors: Callable[[dict[str, Tensor]], None] | None = None, **config: Any) -> None:
    made_by_peft("llama", folder, r=2, target_modules=["down_proj"])
    if tensors:
        held = dict(load_file(folder / WEIGHTS))
        tensors(held)
        save_file(held, folder / WEIGHTS)
    told = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**told, **config}))


KEY = "base_model.model.model.layers.1.mlp.down_proj.lora_{}.weight"


@pytest.mark.parametrize(
    ("message", "change"),
    [
        (r"layers.1.mlp.down_proj \(lora_B \(32, 2\)\): needs lora_A \(r, 64\)", lambda t: t.pop(KEY.format("A"))),
        (
            r"lora_A \(2, 48\), lora_B \(32, 2\)\): needs lora_A \(r, 64\)",
            lambda t: t.update({KEY.format("A"): torch.ones(2, 48)}),
        ),
        (r"lora_A \(3, 64\), lora_B \(32, 2\)", lambda t: t.update({KEY.format("A"): torch.ones(3, 64)})),
        (
            r"layers.9.mlp.down_proj \(lora_A \(2, 64\)\): no such linear module",
            lambda t: t.update({KEY.format("A").replace("1", "9"): torch.ones(2, 64)}),
        ),
        (r"layers.1.mlp.down_proj: the config lists it, no tensor", lambda t: [t.pop(KEY.format(x)) for x in "AB"]),
        ("is no LoRA weight", lambda t: t.update({"base_model.model.model.norm.weight": torch.ones(32)})),
        ("no tensor", lambda t: t.clear()),
        ("exact identity", lambda t: t.update({k: 0 * v for k, v in t.items() if "lora_B" in k})),
        ("not finite", lambda t: t.update({KEY.format("B"): torch.full((32, 2), float("nan"))})),
    ],
)
def test_tensors_that_do_not_land_are_named(
    message: str, change: Callable[[dict[str, Tensor]], None], tmp_path: Path
) -> None:
    spoilt(tmp_path, change)
    with pytest.raises(BadFile, match=message):
        read(tmp_path, fake("llama"))


def test_another_models_adapter_is_refused(tmp_path: Path) -> None:
    spoilt(tmp_path)
    with pytest.raises(BadFile, match="needs lora_A \\(r, 128\\)"):
        read(tmp_path, fake("llama", width=64))
    spoilt(tmp_path, r=3)
    with pytest.raises(BadFile, match="the config says rank 3"):
        read(tmp_path, fake("llama"))


def test_an_untrained_adapter_is_an_identity_and_is_refused(tmp_path: Path) -> None:
    get_peft_model(fake("llama").net, LoraConfig(r=2, target_modules=["down_proj"])).save_pretrained(str(tmp_path))
    with pytest.raises(BadFile, match=r"exact identity.*never trained"):
        read(tmp_path, fake("llama"))


def test_broken_folders(tmp_path: Path) -> None:
    model = fake("llama")
    with pytest.raises(BadFile, match=r"adapter_config\.json"):
        read(tmp_path, model)
    spoilt(tmp_path, peft_type="IA3")
    with pytest.raises(BadFile, match="'IA3'"):
        read(tmp_path, model)
    spoilt(tmp_path)
    whole = (tmp_path / WEIGHTS).read_bytes()
    for cut in (0, 50, len(whole) - 5):
        (tmp_path / WEIGHTS).write_bytes(whole[:cut])
        with pytest.raises(BadFile, match=r"adapter_model\.safetensors"):
            read(tmp_path, model)
    (tmp_path / WEIGHTS).rename(tmp_path / "adapter_model.bin")
    with pytest.raises(BadFile, match="safe_serialization"):
        read(tmp_path, model)
    for text in ("{", "[]"):
        (tmp_path / CONFIG).write_text(text)
        with pytest.raises(BadFile, match=CONFIG):
            read(tmp_path, model)


def test_what_acting_everywhere_changes_is_measured() -> None:
    model = fake("llama")
    everywhere = random_lora(model, {"1.mlp.down_proj": 1})
    rows = [Row((5, 30, 31, 99), (7, 8)), Row((9, 11, 12), (13,))]
    assert positions_matter(everywhere, model, rows) == 0.0
    at_answer = Intervention(everywhere.deltas, "answer")
    with torch.no_grad():
        with at_answer.on(model):
            some = model.logprobs(rows)
        with everywhere.on(model):
            every = model.logprobs(rows)
    assert positions_matter(at_answer, model, rows) == pytest.approx(float((some - every).abs().max()))
    assert positions_matter(at_answer, model, rows) > 0.01
