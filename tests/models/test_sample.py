"""What is written: the same as by plain passes, whoever else is written beside it; edits act on every token of it."""

import random
from collections.abc import Sequence
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from selfaware.errors import BadData, BadModel
from selfaware.interventions.base import Constant, Delta, Intervention, LowRank
from selfaware.models import hooks
from selfaware.models.fake import FAKES, Fake, fake
from selfaware.models.hf import Model
from selfaware.models.render import Ids, turn_end
from selfaware.models.sample import _drawn, ends, sample
from selfaware.types import POSITIONS, Positions, Sampling, Site

WINDOW = 8
TOKENS = 10
GREEDY = Sampling(samples=1, max_new_tokens=TOKENS, temperature=0)


class Numbers:
    """A tokenizer of which only the decoder is asked: ids as they are."""

    def __init__(self, eos: int | None = 2) -> None:
        self.eos_token_id, self.chat_template = eos, None

    def decode(self, ids: list[int], **_: object) -> str:
        return " ".join(map(str, ids))


def numbered(kind: Fake, **settings: float) -> Model:
    """A fake whose texts are its ids."""
    made = fake(kind, window=WINDOW, **settings)
    made.tokenizer = Numbers()
    return made


@cache
def model(kind: Fake) -> Model:
    return numbered(kind)


@cache
def unsplit(kind: Fake) -> Model:
    made = numbered(kind)
    made.engine.splits = False
    return made


def ids(texts: Sequence[tuple[str, ...]]) -> list[list[Ids]]:
    return [[tuple(int(word) for word in text.split()) for text in some] for some in texts]


def prompts(seed: int = 0) -> list[Ids]:
    """Shorter and longer than the window, one of a single token; texts written after them pass it."""
    draw = random.Random(seed)
    return [tuple(draw.randrange(3, 250) for _ in range(n)) for n in (20, 3, 1, 7)]


def keys(of: Sequence[Ids]) -> list[str]:
    return [f"q{len(p)}" for p in of]


def noise(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def edit(m: Model) -> dict[Site, Delta]:
    made: dict[Site, Delta] = {Site(0, "mlp"): Constant(noise(1, 32)), Site(3): Constant(noise(2, 32))}
    if "gpt2" not in m.name:
        where = Site.parse("1.mlp.down_proj")
        linear = m.module(where)
        made[where] = LowRank(noise(3, 2, linear.in_features), noise(4, linear.out_features, 2), 1.5)
    return made


def by_hand(m: Model, prompt: Ids, changes: dict[Site, Delta], positions: Positions, tokens: int = TOKENS) -> Ids:
    """Greedy: one unpadded text, run from its start for every token, with a torch hook at each site."""
    text = prompt

    def hook(delta: Delta):
        def change(_module, inputs, output):
            y = (output[0] if isinstance(output, tuple) else output).clone()
            start = len(prompt) - 1
            at = {"all": slice(0, None), "answer": slice(start, None), "last_prompt": slice(start, start + 1)}[
                positions
            ]
            y[:, at] = delta(inputs[0][:, at], y[:, at])
            return (y, *output[1:]) if isinstance(output, tuple) else y

        return change

    handles = [m.module(site).register_forward_hook(hook(delta)) for site, delta in changes.items()]
    try:
        with torch.no_grad():
            while len(text) < len(prompt) + tokens:
                best = int(
                    m.net(
                        input_ids=torch.tensor([text]), attention_mask=torch.ones(1, len(text)).long(), use_cache=False
                    )
                    .logits[0, -1]
                    .argmax()
                )
                if best == m.tokenizer.eos_token_id:
                    break
                text = (*text, best)
    finally:
        for handle in handles:
            handle.remove()
    return text[len(prompt) :]


def generated(m: Model, texts: Sequence[Ids], tokens: int = TOKENS) -> list[Ids]:
    """What transformers writes, padded on the left."""
    longest = max(len(t) for t in texts)
    padded = torch.tensor([(0,) * (longest - len(t)) + t for t in texts])
    mask = torch.tensor([(0,) * (longest - len(t)) + (1,) * len(t) for t in texts])
    out = m.net.generate(input_ids=padded, attention_mask=mask, do_sample=False, max_new_tokens=tokens, pad_token_id=0)
    found = [tuple(row) for row in out[:, longest:].tolist()]
    return [row[: row.index(2)] if 2 in row else row for row in found]


# greedy ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FAKES)
def test_greedy_is_what_transformers_generates(kind: Fake) -> None:
    m, some = model(kind), prompts()
    got = [row[0] for row in ids(sample(m, some, keys(some), GREEDY))]
    assert max(len(row) for row in got) == TOKENS
    assert len(set(got)) == len(got)
    assert got == generated(m, some)
    assert got == [generated(m, [p])[0] for p in some]
    assert got == [row[0] for row in ids(sample(unsplit(kind), some, keys(some), GREEDY))]
    for p, row in zip(some, got, strict=True):
        assert ids(sample(m, [p], ["x"], GREEDY)) == [[row]]
        assert by_hand(m, p, {}, "all") == row


@pytest.mark.parametrize("kind", ["mistral", "gemma2", "gemma3", "qwen2"])
def test_the_window_is_felt(kind: Fake) -> None:
    wide, some = fake(kind, window=512), prompts()
    wide.tokenizer = Numbers()
    assert sample(wide, some, keys(some), GREEDY) != sample(model(kind), some, keys(some), GREEDY)


@pytest.mark.parametrize("kind", FAKES)
def test_edits_act_on_every_token_that_is_written(kind: Fake) -> None:
    m, some = model(kind), prompts()
    changes, truth = edit(m), {"none": [row[0] for row in ids(sample(m, some, keys(some), GREEDY))]}
    for positions in POSITIONS:
        truth[positions] = [by_hand(m, p, changes, positions) for p in some]
        for each in (m, unsplit(kind)):
            with Intervention(changes, positions).on(each):
                got = sample(each, some, keys(some), GREEDY)
            assert [row[0] for row in ids(got)] == truth[positions], positions
    assert len({tuple(t) for t in truth.values()}) == 4  # or this would not see an edit that acts elsewhere
    assert hooks.hook_count(m.net) == 0


def test_edits_nest() -> None:
    m, some = model("llama"), prompts()
    (one, v), *rest = edit(m).items()
    with Intervention(dict(rest), "all").on(m), Intervention({one: v}, "all").on(m):
        got = sample(m, some, keys(some), GREEDY)
    assert [row[0] for row in ids(got)] == [by_hand(m, p, edit(m), "all") for p in some]


def test_other_types_of_weights_run() -> None:
    m = numbered("llama")
    m.net.to(torch.bfloat16)
    assert sample(m, prompts(), keys(prompts()), GREEDY) == sample(m, prompts(), keys(prompts()), GREEDY)


# draws ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FAKES)
def test_a_text_does_not_depend_on_the_others(kind: Fake) -> None:
    m, some = model(kind), prompts()
    sampling = Sampling(samples=3, max_new_tokens=5, temperature=0.8, seed=3)
    whole = sample(m, some, keys(some), sampling)
    assert len({text for texts in whole for text in texts}) == 12
    for size in (1, 5):
        assert sample(m, some, keys(some), sampling, batch=size) == whole
    assert sample(m, some[::-1], keys(some)[::-1], sampling, batch=7) == whole[::-1]
    assert sample(unsplit(kind), some, keys(some), sampling, batch=7) == whole
    with Intervention(edit(m), "answer").on(m):
        edited = sample(m, some, keys(some), sampling)
        assert sample(m, some, keys(some), sampling, batch=3) == edited
    assert edited != whole


def test_draws_belong_to_seed_key_and_number() -> None:
    m, p = model("llama"), prompts()[0]
    few = sample(m, [p], ["a"], Sampling(3, 8))[0]
    assert sample(m, [p], ["a"], Sampling(5, 8))[0][:3] == few
    assert len(set(few)) == 3
    short, long = ids(sample(m, [p], ["a"], Sampling(3, 4)))[0], ids([few])[0]
    assert [row[:4] for row in long] == short
    for other in (sample(m, [p], ["b"], Sampling(3, 8)), sample(m, [p], ["a"], Sampling(3, 8, seed=1))):
        assert not set(other[0]) & set(few)
    before = torch.random.get_rng_state()
    assert sample(m, [p, p], ["a", "b"], Sampling(3, 8))[0] == few
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_texts_follow_the_models_probabilities(temperature: float) -> None:
    m, p = numbered("qwen3"), prompts()[0]
    n = 4000
    got = [row[0] if row else 2 for row in ids(sample(m, [p], ["q"], Sampling(n, 1, temperature), batch=1000))[0]]
    with torch.no_grad():
        wanted = (m.net(input_ids=torch.tensor([p])).logits[0, -1].double() / temperature).softmax(0)
    counts = torch.zeros_like(wanted).index_add_(0, torch.tensor(got), torch.ones(n, dtype=torch.float64))
    spread = (n * wanted * (1 - wanted)).sqrt()
    likely = n * wanted > 5
    assert int(likely.sum()) >= 8
    assert float(((counts - n * wanted) / spread)[likely].abs().max()) < 4
    assert float(counts[~likely].sum()) == pytest.approx(float(n * wanted[~likely].sum()), abs=4 * n**0.5 / 2)


def test_a_draw_is_inverted() -> None:
    logits = torch.tensor([[0.0, 0.2, 0.3, 0.0, 0.5, 0.0]], dtype=torch.float64).log()
    draws = {0.0: 1, 0.1: 1, 0.199: 1, 0.201: 2, 0.499: 2, 0.501: 4, 1 - 2**-53: 4}
    for draw, token in draws.items():
        assert _drawn(logits, [draw], 1.0) == [token]
    assert _drawn(logits.repeat(3, 1), [0.1, 0.3, 0.9], 1.0) == [1, 2, 4]
    # Squares: .04, .09, .25 of .38.
    assert _drawn(logits.repeat(2, 1), [0.10, 0.11], 0.5) == [1, 2]
    assert _drawn(logits.repeat(2, 1), [0.34, 0.35], 0.5) == [2, 4]
    assert _drawn(logits, [0.0], 0) == [4]
    assert _drawn(logits * 1e300, [0.0], 1e-300) == [4]


# bookkeeping ----------------------------------------------------------------------------------------------------------


def test_touched_counts() -> None:
    m, some = numbered("llama"), prompts()
    changes = edit(m)
    sampling = Sampling(samples=4, max_new_tokens=6)
    m.tokenizer.eos_token_id = None
    free = ids(sample(m, some, keys(some), sampling))
    m.net.generation_config.eos_token_id = sorted({row[at % 5] for at, rows in enumerate(free) for row in rows})
    for positions in POSITIONS:
        with Intervention(changes, positions).on(m) as touched:
            got = [row for rows in ids(sample(m, some, keys(some), sampling, batch=8)) for row in rows]
        assert len({len(row) for row in got}) > 3
        # A text that ended has read its last written token too; one that was cut has not.
        reads = sum(min(6, len(row) + 1) for row in got)
        wanted = {
            "answer": reads,
            "last_prompt": len(got),
            "all": reads + sum(len(p) - 1 for p in some),
        }
        assert (touched.sites, touched.tokens) == (3, 3 * wanted[positions]), positions
        batches = 2  # of two prompts each
        if positions == "last_prompt":
            assert touched.firings == 3 * batches
        elif positions == "answer":
            assert 3 * batches < touched.firings <= 3 * batches * 6


class Counted:
    """Sizes of the passes below the head, `B × T`."""

    def __init__(self, m: Model) -> None:
        self.sizes: list[tuple[int, int]] = []
        m.net.base_model.register_forward_pre_hook(self, with_kwargs=True)

    def __call__(self, _module: object, _args: object, kwargs: dict[str, Tensor]) -> None:
        self.sizes.append(tuple(kwargs["input_ids"].shape))


@pytest.mark.parametrize("positions", POSITIONS)
def test_a_prompt_is_read_once_for_all_its_texts(positions: Positions) -> None:
    m, some = numbered("gemma2"), [tuple(range(3, 23)), tuple(range(40, 60))]
    counted, edited = Counted(m), Intervention(edit(m), positions)
    with edited.on(m):
        first = sample(m, some, ["a", "b"], Sampling(6, 3), batch=12)
        assert counted.sizes == [(2, 19), *[(12, 1)] * 3]
        counted.sizes.clear()
        assert sample(m, some, ["a", "b"], Sampling(6, 3), batch=12) == first
        assert counted.sizes == [(2, 19)] * (positions == "all") + [(12, 1)] * 3
        counted.sizes.clear()
        assert sample(m, some[:1], ["a"], Sampling(6, 3), batch=4) == first[:1]  # more texts than the batch holds
        assert counted.sizes == [(1, 19)] * (positions == "all") + [(4, 1)] * 3 + [(2, 1)] * 3


def test_texts_that_ended_are_dropped() -> None:
    m, some = numbered("llama"), prompts()[:2]
    m.tokenizer.eos_token_id = None
    greedy = [row[0] for row in ids(sample(m, some, keys(some), GREEDY))]
    stop = next(t for t in greedy[0][3:] if t not in greedy[1])
    m.net.generation_config.eos_token_id = [stop, 2]
    cut = greedy[0].index(stop)
    counted = Counted(m)
    assert ids(sample(m, some, keys(some), GREEDY)) == [[greedy[0][:cut]], [greedy[1]]]
    assert counted.sizes == [(2, 1)] * (cut + 1) + [(1, 1)] * (TOKENS - 1 - cut)


def test_single_token_prompts_alone() -> None:
    for kind in ("gemma3", "gpt2"):
        m, some = model(kind), [(5,), (6,)]
        got = [row[0] for row in ids(sample(m, some, ["a", "b"], GREEDY))]
        assert got == [by_hand(m, p, {}, "all") for p in some]


def test_the_ends_of_a_text() -> None:
    m = fake("gemma2")
    assert ends(m) == {2}
    m.net.generation_config.eos_token_id = [2, 9]
    assert ends(m) == {2, 9}
    m.tokenizer.chat_template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + ' <bos>\n' }}{% endfor %}"
    assert turn_end(m.tokenizer) == 1
    assert ends(m) == {1, 2, 9}
    for template in (
        None,
        "{% for m in messages %}{{ m['content'] + '\n' }}{% endfor %}",  # text closes it
        "{{ messages[0]['content'] + '<bos>' }}",  # leaves replies out
        "{{ raise_exception('no') }}",
    ):
        m.tokenizer.chat_template = template
        assert turn_end(m.tokenizer) is None


def test_a_text_is_left_as_it_came() -> None:
    m = fake("llama")
    written = iter([m.tokenizer(text, add_special_tokens=False).input_ids for text in (" so\n", "<pad>", " it  is ,")])
    tokens = [t for part in written for t in part]
    assert 0 in tokens
    vocabulary = m.net.config.vocab_size
    steps = iter([*tokens, 2])

    def read(**arguments: Tensor) -> SimpleNamespace:
        logits = torch.full((*arguments["input_ids"].shape, vocabulary), -9.0)
        logits[..., next(steps)] = 9.0
        return SimpleNamespace(logits=logits)

    m.net.forward = read
    assert sample(m, [(5,)], ["a"], Sampling(1, 40, 0)) == [(" so\n it  is ,",)]
    assert next(steps, None) is None


# refusals -------------------------------------------------------------------------------------------------------------


def test_a_prompt_that_leaves_no_room_is_refused() -> None:
    m = numbered("llama", context=30)
    assert len(ids(sample(m, [(5,) * 20], ["a"], Sampling(1, 10, 0)))[0][0]) == 10
    with pytest.raises(BadModel, match=r"question b: 21 tokens and up to 10 to write; fake-llama holds 30\. Shorten"):
        sample(m, [(5,) * 20, (5,) * 21], ["a", "b"], Sampling(1, 10, 0))


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_logits_that_are_not_numbers_are_refused(kind: Fake) -> None:
    for m in (model(kind), unsplit(kind)):
        for bad in (float("nan"), float("inf")):
            changes = {Site(3): Constant(torch.full((32,), bad))}
            refused = pytest.raises(BadModel, match="question q2: logits after 0 written tokens reach nan")
            with refused, Intervention(changes, "answer").on(m):
                sample(m, [(5, 6)], ["q2"], Sampling(2, 3))
        assert hooks.hook_count(m.net) == 0
        assert m.edits._where is None
        assert m.untouched


@pytest.mark.parametrize(
    "wrong",
    [Sampling(0), Sampling(1, 0), Sampling(1, 1, -0.1), Sampling(1, 1, float("nan")), Sampling(1, 1, float("inf"))],
)
def test_sampling_that_makes_no_sense_is_refused(wrong: Sampling) -> None:
    with pytest.raises(BadData, match="sampling: got samples="):
        sample(model("llama"), [(5,)], ["a"], wrong)


def test_every_prompt_has_a_key() -> None:
    with pytest.raises(ValueError, match=r"shorter|longer"):
        sample(model("llama"), [(5,)], [], Sampling())
    assert sample(model("llama"), [], [], Sampling()) == []
