"""One number, several ways to compute it: batched, split, plain, bare, and by a hand-written hook."""

import random
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor

from selfaware.errors import BadModel, UnknownName
from selfaware.interventions.base import Constant, Delta, Intervention, LowRank
from selfaware.models import hooks
from selfaware.models.batch import Row
from selfaware.models.fake import FAKES, Fake, fake, write
from selfaware.models.hf import Model
from selfaware.models.hub import locate
from selfaware.models.load import describe, load
from selfaware.types import POSITIONS, Positions, Site

LLAMA_LIKE = tuple(k for k in FAKES if k != "gpt2")
NEAR = 1e-4
WINDOW = 8


@cache
def model(kind: Fake) -> Model:
    return fake(kind, window=WINDOW)


def rows(seed: int = 0) -> list[Row]:
    """Prompts shorter and longer than the window, one of a single token, one shared by two answers."""
    draw = random.Random(seed)
    text = lambda n: tuple(draw.randrange(3, 250) for _ in range(n))
    shared = text(20)
    sizes = [(1, 4), (5, 1), (33, 12), (2, 2), (9, 3)]
    return [Row(shared, text(3)), *(Row(text(n), text(a)) for n, a in sizes), Row(shared, text(1))]


def noise(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def low_rank(m: Model, site: str, seed: int = 0, rank: int = 2) -> tuple[Site, LowRank]:
    where = Site.parse(site)
    module = m.module(where)
    return where, LowRank(
        noise(seed, rank, module.in_features, scale=0.3), noise(seed + 1, module.out_features, rank, scale=0.3), 1.5
    )


def constant(m: Model, site: str, seed: int = 0) -> tuple[Site, Constant]:
    return Site.parse(site), Constant(noise(seed, m.output_width(Site.parse(site))))


def edits(m: Model, kind: Fake) -> dict[str, list[tuple[Site, Delta]]]:
    made: dict[str, list[tuple[Site, Delta]]] = {
        "constant at a block": [constant(m, "1")],
        "constant at mlp.residual": [constant(m, "2.mlp.residual")],
        "constants at two sites": [constant(m, "0.mlp"), constant(m, "2", 5)],
    }
    if kind != "gpt2":
        made["low rank at down_proj"] = [low_rank(m, "1.mlp.down_proj")]
        made["low rank at q_proj and up_proj"] = [low_rank(m, "0.self_attn.q_proj"), low_rank(m, "2.mlp.up_proj", 7)]
    return made


def bare(m: Model, row: Row, changes: list[tuple[Site, Delta]] = [], positions: Positions = "all") -> Tensor:  # noqa: B006
    """By hand: one unpadded text, a torch hook for each site, the softmax over the whole vocabulary."""
    ids = torch.tensor([row.prompt + row.answer])
    start = len(row.prompt) - 1
    columns = {
        "all": slice(0, None),
        "answer": slice(start, start + len(row.answer)),
        "last_prompt": slice(start, start + 1),
    }[positions]

    def hook(delta: Delta):
        def change(_module, inputs, output):
            y = (output[0] if isinstance(output, tuple) else output).clone()
            y[:, columns] = delta(inputs[0][:, columns], y[:, columns])
            return (y, *output[1:]) if isinstance(output, tuple) else y

        return change

    handles = [m.module(site).register_forward_hook(hook(delta)) for site, delta in changes]
    try:
        found = m.net(input_ids=ids).logits[0].log_softmax(-1)
    finally:
        for handle in handles:
            handle.remove()
    return sum((found[start + i, token] for i, token in enumerate(row.answer)), torch.zeros(()))


def near(a: Tensor, b: Tensor, within: float = NEAR) -> None:
    assert a.shape == b.shape
    assert float((a - b).detach().abs().max()) < within


# untouched ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FAKES)
def test_batched_split_plain_and_bare_agree(kind: Fake) -> None:
    m, wanted = model(kind), rows()
    with torch.no_grad():
        truth = torch.stack([bare(m, row) for row in wanted])
        for got in (
            m.logprobs(wanted),
            m.logprobs(wanted, batch=3),
            m.logprobs(wanted, plain=True),
            torch.cat([m.logprobs([row]) for row in wanted]),
            torch.cat([m.logprobs([row], plain=True) for row in wanted]),
        ):
            near(got, truth)
    assert m.splits
    assert m.logprobs([]).shape == (0,)


@pytest.mark.parametrize("kind", ["mistral", "gemma2", "gemma3", "qwen2"])
def test_the_window_is_felt(kind: Fake) -> None:
    long, short = rows()[3], rows()[2]
    with torch.no_grad():
        narrow, wide = model(kind), fake(kind, window=512)
        assert float((narrow.logprobs([long]) - wide.logprobs([long])).abs()) > 0.01
        near(narrow.logprobs([short]), wide.logprobs([short]))


@pytest.mark.parametrize("kind", FAKES)
def test_left_padding_moves_no_position(kind: Fake) -> None:
    m = fake(kind, window=WINDOW)
    short, long = Row((7, 8, 9), (10, 11)), Row(tuple(range(3, 40)), (10, 11))
    with torch.no_grad():
        alone = m.logprobs([short])
        m.engine.cache = type(m.cache)(0)
        near(m.logprobs([short, long])[:1], alone)


def test_other_types_of_weights_run() -> None:
    m = fake("llama")
    m.net.to(torch.bfloat16)
    with torch.no_grad(), Intervention(dict([low_rank(m, "1.mlp.down_proj")]), "answer").on(m):
        assert m.logprobs(rows()).dtype == torch.float32


@pytest.mark.parametrize("kind", FAKES)
def test_written_and_loaded_gives_the_same(kind: Fake, tmp_path) -> None:
    write(kind, tmp_path / "m", window=WINDOW)
    loaded = load(locate(str(tmp_path / "m"), tmp_path / "cache"), "float32")
    with torch.no_grad():
        near(loaded.logprobs(rows()), model(kind).logprobs(rows()))
    assert loaded.tokenizer("a fox") == model(kind).tokenizer("a fox")
    assert bool(loaded.tokenizer.chat_template) == bool(model(kind).tokenizer.chat_template)


def test_a_folder_without_a_model_is_named(tmp_path) -> None:
    write("llama", tmp_path / "m")
    local = locate(str(tmp_path / "m"), tmp_path / "cache")
    (tmp_path / "m" / "config.json").write_text('{"model_type": "no_such"}')
    with pytest.raises(BadModel, match="a causal language model"):
        load(local, "float32")


def test_fakes_leave_the_global_generator_alone_and_follow_their_seed() -> None:
    before = torch.random.get_rng_state()
    one, two, other = fake("gemma3", 1), fake("gemma3", 1), fake("gemma3", 2)
    assert torch.equal(before, torch.random.get_rng_state())
    same = [torch.equal(a, b) for a, b in zip(one.net.parameters(), two.net.parameters(), strict=True)]
    assert all(same)
    assert not torch.equal(next(one.net.parameters()), next(other.net.parameters()))
    with pytest.raises(UnknownName, match="gemma3"):
        fake.__wrapped__("gemma4") if hasattr(fake, "__wrapped__") else fake("gemma4")  # type: ignore[arg-type]


# edited ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("kind", FAKES)
def test_edits_are_the_same_split_plain_and_by_hand(kind: Fake, positions: Positions) -> None:
    m, wanted = model(kind), rows()
    with torch.no_grad():
        untouched = m.logprobs(wanted)
        for name, changes in edits(m, kind).items():
            truth = torch.stack([bare(m, row, changes, positions) for row in wanted])
            with Intervention(dict(changes), positions).on(m):
                near(m.logprobs(wanted), truth)
                near(m.logprobs(wanted, batch=2), truth)
                near(m.logprobs(wanted, plain=True), truth)
            assert float((truth - untouched).abs().max()) > 0.01, name
        near(m.logprobs(wanted), untouched, 1e-6)
    assert hooks.hook_count(m.net) == 0


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("kind", LLAMA_LIKE)
def test_gradients_are_the_same_split_plain_and_by_hand(kind: Fake, positions: Positions) -> None:
    m, wanted = model(kind), rows()

    def gradient(run) -> list[Tensor]:
        changes = [low_rank(m, "1.mlp.down_proj"), constant(m, "2.mlp.residual")]
        leaves = [t.requires_grad_() for _, d in changes for t in d.tensors().values()]
        (run(changes) / 10).sum().backward()
        return [t.grad for t in leaves]

    def through(plain: bool):
        def run(changes):
            with Intervention(dict(changes), positions).on(m):
                return m.logprobs(wanted, plain=plain)

        return run

    truth = gradient(lambda changes: torch.stack([bare(m, row, changes, positions) for row in wanted]))
    assert all(float(t.abs().max()) > 0 for t in truth)
    for got in (gradient(through(False)), gradient(through(True))):
        for a, b in zip(got, truth, strict=True):
            near(a, b, 1e-4 * max(1.0, float(b.abs().max())))


@pytest.mark.parametrize("kind", FAKES)
def test_a_pass_resumed_at_the_first_edited_block_gives_the_same(kind: Fake) -> None:
    m, wanted = fake(kind, window=WINDOW), rows()
    late, early = constant(m, "3"), constant(m, "1.mlp", 4)
    with torch.no_grad():
        want_late, want_both = (
            torch.stack([bare(m, row, c, "answer") for row in wanted]) for c in ([late], [early, late])
        )
        with Intervention(dict([late]), "answer").on(m):
            for _ in range(2):
                near(m.logprobs(wanted), want_late)
            ran = []
            handles = [
                b.mlp.register_forward_hook(
                    lambda mod, *_: ran.append(m.blocks.index(next(b for b in m.blocks if b.mlp is mod)))
                )
                for b in m.blocks
            ]
            near(m.logprobs(wanted[:3]), want_late[:3])
            assert ran == [3]
            for handle in handles:
                handle.remove()
            with Intervention(dict([early]), "answer").on(m):
                near(m.logprobs(wanted), want_both)
            near(m.logprobs(wanted), want_late)
            with pytest.raises(ValueError, match="shape"), m.edited([(Site(3), lambda x, y: y[:, :1])], "answer"):
                m.logprobs(wanted)
    assert hooks.hook_count(m.net) == 0


def test_touched_counts() -> None:
    m, wanted = model("llama"), rows()
    answers, prompts = sum(len(r.answer) for r in wanted), {r.prompt for r in wanted}
    changes = dict([constant(m, "1"), low_rank(m, "2.mlp.down_proj")])
    want = {
        ("answer", False): 2 * answers,
        ("answer", True): 2 * answers,
        ("last_prompt", False): 2 * len(wanted),
        ("last_prompt", True): 2 * len(wanted),
        ("all", True): 2 * sum(len(r.prompt) + len(r.answer) - 1 for r in wanted),
        ("all", False): 2 * (sum(len(p) - 1 for p in prompts) + answers),  # a shared prompt runs once
    }
    for (positions, plain), tokens in want.items():
        with torch.no_grad(), Intervention(changes, positions).on(m) as touched:
            assert (touched.sites, touched.firings, touched.tokens) == (2, 0, 0)
            m.logprobs(wanted, plain=plain)
        assert touched.tokens == tokens, (positions, plain)
        assert touched.firings == (4 if (positions, plain) == ("all", False) else 2)


def test_edits_nest() -> None:
    m, wanted = model("gemma2"), rows()
    inner, outer = constant(m, "1.mlp"), constant(m, "2", 3)
    with torch.no_grad(), Intervention(dict([outer]), "all").on(m):
        with Intervention(dict([inner]), "answer").on(m):
            got, plain = m.logprobs(wanted), m.logprobs(wanted, plain=True)
        only = m.logprobs(wanted)
    near(got, plain)
    with torch.no_grad():
        near(only, torch.stack([bare(m, row, [outer]) for row in wanted]))
    assert float((got - only).abs().max()) > 0.01
    with torch.no_grad():
        truth = torch.stack([bare(m, row, [inner, inner]) for row in wanted])
        with Intervention(dict([inner]), "all").on(m), Intervention(dict([inner]), "all").on(m):
            near(m.logprobs(wanted), truth)


def test_nothing_leaks() -> None:
    m, wanted = fake("llama"), rows()
    with torch.no_grad():
        before = m.logprobs(wanted)
    good, bad = constant(m, "1"), (Site(2, "mlp.dwn"), Constant(torch.ones(32)))
    for changes, error in ((dict([good, bad]), UnknownName), ({good[0]: good[1], Site(99): good[1]}, UnknownName)):
        with pytest.raises(error), Intervention(changes, "all").on(m):
            pytest.fail("attached")
        with pytest.raises(error), m.edited(list(changes.items()), "all"):
            pytest.fail("attached")
        assert hooks.hook_count(m.net) == 0
    with pytest.raises(RuntimeError, match="body"), Intervention(dict([good]), "all").on(m):
        raise RuntimeError("body")
    with pytest.raises(ValueError, match="shape"), m.edited([(Site(1), lambda x, y: y[:, :1])], "all"):
        m.logprobs(wanted)
    assert hooks.hook_count(m.net) == 0
    assert m.untouched
    assert m.edits._where is None
    with torch.no_grad():
        assert torch.equal(m.logprobs(wanted), before)


def test_a_bare_pass_knows_all_positions_only() -> None:
    m, ids = model("llama"), torch.tensor([[5, 6, 7]])
    changes = dict([constant(m, "1")])
    with torch.no_grad(), Intervention(changes, "all").on(m) as touched:
        m.net(input_ids=ids)
    assert touched.tokens == 3
    with pytest.raises(BadModel, match="positions 'answer'"), Intervention(changes, "answer").on(m):
        m.net(input_ids=ids)
    assert hooks.hook_count(m.net) == 0


# sites ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "qwen3"])
def test_without_a_post_norm_the_mlp_is_one_site(kind: Fake) -> None:
    m = model(kind)
    assert {m.resolve(Site.parse(s)) for s in ("2.mlp", "2.mlp.down_proj", "2.mlp.residual")} == {Site(2, "mlp")}
    assert m.resolve(Site(2)) == Site(2)
    v = Constant(noise(0, 32))
    with torch.no_grad():
        got = []
        for site in ("2.mlp", "2.mlp.down_proj", "2.mlp.residual", "2"):
            with Intervention({Site.parse(site): v}, "answer").on(m):
                got.append(m.logprobs(rows()))
    for other in got[1:]:
        near(other, got[0])


@pytest.mark.parametrize("kind", ["gemma2", "gemma3"])
def test_with_a_post_norm_what_the_block_adds_is_its_own_site(kind: Fake) -> None:
    m = model(kind)
    assert m.resolve(Site.parse("2.mlp.down_proj")) == m.resolve(Site.parse("2.mlp")) == Site(2, "mlp")
    assert m.resolve(Site.parse("2.mlp.residual")) == Site(2, "mlp.residual")
    assert m.resolve(Site.parse("2.post_feedforward_layernorm")) == Site(2, "mlp.residual")
    assert m.module(Site(2, "mlp.residual")) is m.blocks[2].post_feedforward_layernorm


@pytest.mark.parametrize("kind", ["gemma2", "gemma3"])
def test_before_a_post_norm_a_vector_saturates(kind: Fake) -> None:
    """Pitfall: a hundred times the vector moves what the block gives no further when a norm comes after it."""
    m, row = model(kind), rows()[0]
    v = noise(3, 32)

    def moved(site: str, times: float) -> float:
        with torch.no_grad(), hooks.recorded([m.blocks[2]]) as seen:
            m.logprobs([row], plain=True)
            before = seen[0].clone()
            with Intervention({Site.parse(site): Constant(v * times)}, "all").on(m):
                m.logprobs([row], plain=True)
            return float((seen[0] - before).norm())

    assert moved("2.mlp.down_proj", 10_000) / moved("2.mlp.down_proj", 100) < 1.1
    assert moved("2.mlp.residual", 10_000) / moved("2.mlp.residual", 100) == pytest.approx(100, rel=1e-3)


def test_unknown_sites_name_the_nearest() -> None:
    m = model("gemma2")
    for wrong, near_one in (
        ("1.mlp.dwn_proj", "1.mlp.down_proj"),
        ("1.mlp.residul", "1.mlp.residual"),
        ("1.self_atn.q_proj", "1.self_attn.q_proj"),
    ):
        with pytest.raises(UnknownName, match=f"Did you mean '{near_one}'"):
            m.module(Site.parse(wrong))
    with pytest.raises(UnknownName, match="4 blocks"):
        m.module(Site.parse("4.mlp"))
    for wrong in ("mlp", "1.", "-1.mlp", "x.1", ""):
        with pytest.raises(UnknownName, match="not a site"):
            Site.parse(wrong)


def test_a_lora_goes_on_linear_modules() -> None:
    m = model("gemma2")
    assert [str(s) for s in m.linears("2.mlp")] == ["2.mlp.gate_proj", "2.mlp.up_proj", "2.mlp.down_proj"]
    assert [str(s) for s in m.linears("2.mlp.down_proj")] == ["2.mlp.down_proj"]
    assert len(m.linears("2")) == 7
    assert len(m.linears("all-linear")) == 28
    assert m.linears("1-2") == (*m.linears("1"), *m.linears("2"))
    assert [str(s) for s in m.linears("0-1.mlp.down_proj")] == ["0.mlp.down_proj", "1.mlp.down_proj"]
    with pytest.raises(UnknownName, match="4 blocks"):
        m.linears("2-9")
    with pytest.raises(BadModel, match="lower one comes first"):
        m.linears("2-1")
    with pytest.raises(BadModel, match="no linear module"):
        m.linears("2.mlp.residual")
    with pytest.raises(BadModel, match="no linear module"):
        model("gpt2").linears("0.mlp")


def test_widths() -> None:
    m = model("llama")
    assert [
        m.output_width(Site.parse(s)) for s in ("1", "1.mlp", "1.mlp.up_proj", "1.self_attn", "1.self_attn.k_proj")
    ] == [32, 32, 64, 32, 16]
    assert m.output_width(Site.parse("1.mlp.act_fn")) == 64
    assert model("gpt2").output_width(Site.parse("1.mlp.c_fc")) == 128
    with pytest.raises(BadModel, match="one vector a token"):
        model("qwen3").output_width(Site.parse("1.self_attn.q_norm"))
    with Intervention(dict([constant(m, "1")]), "answer").on(m) as touched:
        assert fake("llama").output_width(Site.parse("2.input_layernorm")) == 32
    assert touched.firings == 0


def test_describe_names_the_site_parts() -> None:
    told = dict(describe(model("gemma2")))
    assert "down_proj" in told["linear modules in a block"]
    assert told["post-norm after the MLP"] == "post_feedforward_layernorm"
    assert "one site" in dict(describe(model("llama")))["post-norm after the MLP"]
    assert dict(describe(model("gpt2")))["chat template"].startswith("no")


def test_a_net_without_blocks_is_refused() -> None:
    m = fake("llama", blocks=2)
    m.net.config.num_hidden_layers = 3
    with pytest.raises(BadModel, match="no list of 3 blocks"):
        Model(m.net, m.tokenizer, name="x", identity="x")


def test_a_net_without_a_head_is_refused() -> None:
    m = fake("llama")
    with pytest.raises(BadModel, match="LlamaModel: no output embeddings"):
        Model(m.net.base_model, m.tokenizer, name="x", identity="x")


def test_logits_are_those_that_predict_the_answers() -> None:
    for kind in ("gemma2", "gpt2"):
        m, some = fake(kind, window=WINDOW), rows()
        targets = torch.tensor([t for row in some for t in row.answer])
        with torch.no_grad():
            truth = torch.stack([bare(m, row) for row in some])
            for splits in (True, True, False):
                m.engine.splits = splits
                picked = m.logits(some).log_softmax(1)[torch.arange(len(targets)), targets]
                near(torch.stack([p.sum() for p in picked.split([len(row.answer) for row in some])]), truth)


def test_untouched() -> None:
    m = model("llama")
    assert m.untouched
    for positions in POSITIONS:
        with Intervention(dict([constant(m, "1")]), positions).on(m):
            assert not m.untouched
    assert m.untouched


def test_rows_are_values() -> None:
    assert replace(Row((1,), (2,)), answer=(3,)) == Row((1,), (3,))
