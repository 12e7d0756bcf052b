"""Which tokens a direction speaks for, and whether more of given words than chance. Knows a vocabulary; must not know why they are asked for."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from selfaware.errors import BadData, BadModel
from selfaware.models import hooks
from selfaware.models.hf import Model
from selfaware.readouts.spelling import spelled
from selfaware.types import require

By = Literal["cosine", "logits"]
End = Literal["top", "bottom"]
Kind = Literal["isotropic", "covariance"]

ENDS: tuple[End, ...] = ("top", "bottom")

Values = Callable[[Tensor], Tensor]
"""Directions `[S, D]` to a value for every token of the vocabulary, `[S, V]`, float32."""

DIRECTIONS = 128
"""Random directions held against the vocabulary at once: their values take 134 MB where it has 262 144 tokens."""

PIECE = 16384
"""Tokens of the vocabulary made float32 at once, where the head is not."""


@dataclass(frozen=True)
class Token:
    """A token at one end of a direction: its text as a reader can see it, and its cosine or change of logit."""

    id: int
    text: str
    value: float


@dataclass(frozen=True)
class Counted:
    """How many tokens at one end begin with one of a list's stems, beside the same count for random directions.

    Attributes:
        words: the list's name.
        null: how the random directions were drawn.
        expected: mean count over them.
        p: chance of at least as many: (1 + directions with as many) / (1 + directions).
    """

    words: str
    end: End
    found: int
    null: Kind
    expected: float
    p: float


@dataclass(frozen=True)
class Ranking:
    """Tokens at both ends of a direction, the outermost first, and the counts among them."""

    by: By
    top: tuple[Token, ...]
    bottom: tuple[Token, ...]
    counted: tuple[Counted, ...]


@dataclass(frozen=True)
class ReadOut:
    """A direction against the unembedding: one ranking by cosine, and one by logits where a state was given.

    Attributes:
        norm: of the direction as it was given; it matters to the logits alone.
        null_draws: random directions of each kind.
    """

    norm: float
    null_draws: int
    rankings: tuple[Ranking, ...]


def read_out(
    model: Model,
    v: Float[Tensor, " D"],
    count: int,
    null_draws: int,
    seed: int,
    words: Mapping[str, Sequence[str]],
    state: Float[Tensor, " D"] | None = None,
    sample: Float[Tensor, "N D"] | None = None,
) -> ReadOut:
    """Top and bottom tokens of a direction, and how many of given words are among them.

    `v` is taken to be in the units of the residual stream, at a block's output. What was trained or measured before a norm (the MLP's
    output in Gemma 2 and 3) is not: its reading here would mean nothing, and nothing here can tell.

    By cosine: with the rows of the unembedding, no norm in between. By logits: head(norm(state + v)) − head(norm(state)), in the
    model's own final norm, head and whatever caps the logits; a direct path, in which no later block takes part. Load the model in
    float32: in bfloat16 small changes of logits are rounding. Costs a product of the vocabulary with every random direction.

    Args:
        count: tokens at each end.
        null_draws: random directions of each kind, as long as v.
        seed: of the draws.
        words: stems by the list's name, `risk` for risky and risks; a token counts when it begins with one, leaving out spaces and
            signs before it, small and large letters alike.
        state: a residual state, such as the mean after the last block; without one there is no ranking by logits.
        sample: residual states, a row each; with them a second null has their covariance.

    Raises:
        BadModel: the direction is not as wide as the residual stream, the head is no linear module of that width, or an edit is attached.
        BadData: a direction or state that is zero or not finite, an empty stem, a count that the vocabulary does not hold, or
            a sample that does not vary.

    Source: nostalgebraist 2020, "interpreting GPT: the logit lens"; Engels et al. 2025, "Mechanisms of Awareness" (cosines);
        Phipson and Smyth 2010 (p).
    """
    head = checked_head(model, v, state, sample)
    v = v.detach().to(model.device).float()
    known = known_tokens(model.tokenizer, len(head.weight)).to(model.device)
    require(
        0 < count <= int(known.sum()) and (null_draws > 0 or not words),
        BadData(
            f"reading out: got count {count} and {null_draws} draws; 1 to {int(known.sum())} tokens and a draw at least are needed. Set them so."
        ),
    )
    masks = beginning(model.tokenizer, known, words)
    ways: dict[By, Values] = {"cosine": by_cosine(head)}
    if state is not None:
        ways["logits"] = by_logits(model, state.detach().to(model.device).float())
    drawn: dict[Kind, Tensor] = {"isotropic": random_directions(v, null_draws, seed, None)} if words else {}
    if words and sample is not None:
        drawn["covariance"] = random_directions(v, null_draws, seed, sample.detach().to(model.device))
    rankings = []
    for by, values in ways.items():
        top, bottom = (
            tuple(
                Token(i, spelled(model.tokenizer, i), x)
                for i, x in zip(ids[0].tolist(), found[0].tolist(), strict=True)
            )
            for ids, found in _ends(values(v[None]), known, count)
        )
        counted = [one for kind, some in drawn.items() for one in _counted(values, v, some, masks, known, count, kind)]
        rankings.append(Ranking(by, top, bottom, tuple(counted)))
    return ReadOut(float(v.norm()), null_draws, tuple(rankings))


def logits_at(model: Model, states: Float[Tensor, "N D"]) -> Float[Tensor, "N V"]:
    """The logits that the model gives where these residual states leave its last block, float32.

    Norm, head and caps are the model's own: it runs one token, with the last block's output replaced.

    Args:
        states: in the units of the residual stream.
    """
    residual = states.to(model.device, model.dtype)[:, None]
    ids = torch.zeros(len(states), 1, dtype=torch.long, device=model.device)
    last = len(model.blocks) - 1
    put: hooks.Change = lambda _, y: residual.to(y)  # noqa: E731
    with (
        torch.no_grad(),
        hooks.resumed(model.blocks, last, torch.zeros_like(residual)),
        hooks.changed([(model.blocks[last], put)]),
    ):
        logits: Tensor = model.net(input_ids=ids, use_cache=False).logits
    return logits[:, 0].float()


# two ways to a value for every token ---------------------------------------------------------------------------------


def by_cosine(head: nn.Linear) -> Values:
    """Cosines of directions with the unembedding's rows."""
    pieces = torch.split(head.weight, PIECE)
    lengths = torch.cat([piece.float().norm(dim=1) for piece in pieces]).clamp_min(torch.finfo(torch.float32).tiny)

    def values(directions: Tensor) -> Tensor:
        units = directions / directions.norm(dim=1, keepdim=True)
        return torch.cat([units @ piece.float().T for piece in pieces], 1) / lengths

    return values


def by_logits(model: Model, state: Tensor) -> Values:
    """Changes of the logits that a residual state `[D]` gives, when a direction is added to it."""
    before = logits_at(model, state[None])
    return lambda directions: logits_at(model, state + directions) - before


def _ends(values: Tensor, known: Tensor, count: int) -> list[tuple[Tensor, Tensor]]:
    """For every direction ids and values of the largest and of the smallest values, the outermost first."""
    top = values.masked_fill(~known, -torch.inf).topk(count)
    bottom = values.masked_fill(~known, torch.inf).topk(count, largest=False)
    return [(best.indices, best.values) for best in (top, bottom)]


# counting --------------------------------------------------------------------------------------------------------------


def _counted(
    values: Values, v: Tensor, drawn: Tensor, masks: Mapping[str, Tensor], known: Tensor, count: int, kind: Kind
) -> list[Counted]:
    """The counts at both ends, and where they stand among those of the drawn directions."""
    parts = [counts(values(some), masks, known, count) for some in (v[None], *torch.split(drawn, DIRECTIONS))]
    found = torch.cat(parts)  # [1 + S, words, ends]
    made = []
    for at, name in enumerate(masks):
        for number, end in enumerate(ENDS):
            own, null = int(found[0, at, number]), found[1:, at, number]
            p = (1 + int((null >= own).sum())) / (1 + len(null))
            made.append(Counted(name, end, own, kind, float(null.double().mean()), p))
    return made


def counts(values: Tensor, masks: Mapping[str, Tensor], known: Tensor, count: int) -> Tensor:
    """How many tokens of each list stand at either end of each direction, `[S, words, ends]`.

    Args:
        values: `[S, V]`.
        masks: by list, `[V]`.
        known: `[V]`, see `known_tokens`.
    """
    ends = [ids for ids, _ in _ends(values, known, count)]
    return torch.stack([torch.stack([mask[ids].sum(1) for ids in ends], 1) for mask in masks.values()], 1)


def random_directions(v: Tensor, draws: int, seed: int, sample: Tensor | None) -> Float[Tensor, "S D"]:
    """Random directions as long as v; drawn on the CPU, where a draw is the same on every machine."""
    generator = torch.Generator().manual_seed(seed)
    if sample is None:
        made = torch.randn(draws, len(v), generator=generator)
    else:
        about = (sample.double() - sample.double().mean(0)).cpu()
        made = (torch.randn(draws, len(about), generator=generator, dtype=torch.float64) @ about).float()
    return (made / made.norm(dim=1, keepdim=True)).to(v.device) * v.norm()


# a vocabulary ----------------------------------------------------------------------------------------------------------


def known_tokens(tokenizer: Any, size: int) -> Bool[Tensor, " V"]:
    """Which rows of the unembedding belong to a token: many models have more, which were never trained."""
    known = torch.zeros(size, dtype=torch.bool)
    known[torch.tensor([i for i in tokenizer.get_vocab().values() if i < size], dtype=torch.long)] = True
    return known


def beginning(tokenizer: Any, known: Tensor, words: Mapping[str, Sequence[str]]) -> dict[str, Bool[Tensor, " V"]]:
    """For each list the tokens that begin with one of its stems."""
    stems = {name: tuple(stem.casefold() for stem in some) for name, some in words.items()}
    for name, some in stems.items():
        require(
            bool(some) and all(_bare(stem) == stem and stem for stem in some),
            BadData(
                f"words {name!r}: got {list(words[name])}; stems that begin with a letter or a digit are needed. Write such."
            ),
        )
    masks = {name: torch.zeros(len(known), dtype=torch.bool, device=known.device) for name in stems}
    for i in known.nonzero()[:, 0].tolist() if stems else ():
        text = _bare(spelled(tokenizer, i).casefold())
        for name, some in stems.items():
            if text.startswith(some):
                masks[name][i] = True
    return masks


def _bare(text: str) -> str:
    """The text from its first letter or digit on."""
    return re.sub(r"^[\W_]+", "", text)


def checked_head(model: Model, v: Tensor, state: Tensor | None, sample: Tensor | None) -> nn.Linear:
    """The head, where direction, state and sample can be held against it."""
    head = model.head
    if not isinstance(head, nn.Linear) or head.weight.shape[1] != model.width:
        raise BadModel(
            f"reading out: the head of {model.name} is {type(head).__name__}, not a linear module of width {model.width}; one is needed. Use another model."
        )
    if not model.untouched:
        raise BadModel(f"reading out: an edit is attached; {model.name} itself is needed. Leave its context first.")
    for what, tensor in (("direction", v), ("state", state)):
        if tensor is None:
            continue
        if tuple(tensor.shape) != (model.width,):
            raise BadModel(
                f"{what} of shape {tuple(tensor.shape)}: the residual stream of {model.name} has ({model.width},). Take it at a block's output."
            )
        require(
            bool(tensor.isfinite().all()) and bool(tensor.any()),
            BadData(f"{what}: got one that is zero or not finite; another is needed. Make it again."),
        )
    if sample is not None:
        require(
            sample.ndim == 2
            and sample.shape[1] == model.width
            and bool(sample.isfinite().all())
            and bool((sample != sample[:1]).any()),
            BadData(
                f"sample of shape {tuple(sample.shape)}: rows (N, {model.width}), finite, that differ are needed. Take outputs of a block."
            ),
        )
    return head
