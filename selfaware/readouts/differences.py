"""What an adapter adds to a site's output, token by token: is it one direction? Knows tensors and texts; must not know a behaviour."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from selfaware.errors import BadData, BadModel
from selfaware.interventions.base import Intervention, LowRank
from selfaware.interventions.texts import long_enough, outliers, outputs, rows_over, tokens
from selfaware.models.hf import Model
from selfaware.models.render import Ids
from selfaware.readouts.base import Looked, OnStep
from selfaware.readouts.geometry import coefficient_of_variation, cosines, explained, norms
from selfaware.types import Open, Passage, Question, Site, Template, require

COMPONENTS = 3
"""Principal components whose shares are given."""


@dataclass(frozen=True)
class Differences:
    """Adapted − base output of each site at every token of some texts, with the adapter at all positions.

    It acts on the first token too, whatever positions it was trained at, so that this one can be seen beside the others. Texts are
    the passages, then the questions asked: each prompt with an option, in turn the first and the second. What is seen, for `S` sites, `N`
    texts and `T` tokens of the longest, not a number where there is none:

    - `map` `[S, P, P]`: the cosine, with its sign, of every two tokens of the first text, `P` its tokens.
    - `norms`, `base` `[S, N, T]`: norm of the difference, and of the base model's output, token by token.
    - `cosine` `[S, N]`: mean cosine, with its sign, of all pairs of two tokens, the first ones left out (`outliers`);
      `with_first`: the same with them; `first`: of the very first token with those of `cosine`; `answer`: of pairs
      of those at which a token of the answer is predicted; `across`: of the text's tokens with those of the other texts of its kind.
    - `explained` `[S, N, 2, 3]`: shares of the sum of squares along three principal components, the first tokens left out;
      uncentred, then centred.
    - Of an adapter of rank 1 on one module that is among the sites: `coefficients` `[N, T]`, a·x of every token; `sign_share` `[N]`,
      the share of tokens whose a·x has the commoner sign; `variation` `[N]`, its coefficient of variation; `identity` `[N]`, the
      least |cosine| of a difference with B, which is 1 but for rounding. In all but the first the first tokens are left out.

    Attributes:
        sites: whose outputs are compared.
        passages: neutral texts.
        template: how questions are written.
        last: passages end after so many tokens.
    """

    sites: tuple[str, ...]
    passages: tuple[str, ...]
    template: Template
    last: int = 90

    @property
    def label(self) -> str:
        """As written beside a progress bar."""
        return f"differences at {', '.join(self.sites)}"

    def look(
        self,
        model: Model,
        given: Sequence[Intervention],
        asked: Sequence[Question] | Sequence[Open] | Sequence[Passage],
        on_step: OnStep,
    ) -> Looked:
        """See the class. Costs two passes over all texts, up to the last site.

        Raises:
            BadData: not one adapter, no sites, no texts or one that is too short, a site below the adapter's first
                block, or an adapter that adds nothing at any site.
            BadModel: an edit is attached, or a text is longer than the context.
            UnknownName: no such site.
        """
        sites = self._sites(model, given)
        texts = self._texts(model, asked)
        rows = [row for ids, _, _ in texts for row in rows_over(ids, 1, len(ids) - 1, "all")]
        before = outputs(model, sites, rows)
        on_step(0.5)
        with replace(given[0], positions="all").on(model):
            after = outputs(model, sites, rows)
        added = [[b - a for a, b in zip(*pair, strict=True)] for pair in zip(before, after, strict=True)]
        require(
            any(bool(x.any()) for some in added for x in some),
            BadData(
                f"{self.label}: the adapter adds nothing there; one that does is needed. Train it, or look higher."
            ),
        )
        longest, passages = max(len(ids) for ids, _, _ in texts), len(self.passages)
        numbers = {
            "map": torch.stack([_map(some[0]) for some in added]),
            "norms": torch.stack([_by_token(some, longest) for some in added]),
            "base": torch.stack([_by_token(some, longest) for some in before]),
            "explained": torch.stack([torch.stack([_shares(x[s:]) for x, (_, s, _) in zip(some, texts, strict=True)]) for some in added]),
        }  # fmt: skip
        each = [[_of_text(x, s, a) for x, (_, s, a) in zip(some, texts, strict=True)] for some in added]
        for name in each[0][0]:
            numbers[name] = torch.tensor([[of[name] for of in some] for some in each], dtype=torch.float32)
        inner = [[x[s:] for x, (_, s, _) in zip(some, texts, strict=True)] for some in added]
        kinds = (slice(0, passages), slice(passages, None))
        numbers["across"] = torch.tensor([[v for kind in kinds for v in _across(some[kind])] for some in inner])
        only = _only(model, given[0], sites)
        if only is not None:
            at, delta = only
            numbers |= _coefficients(added[at], [s for _, s, _ in texts], delta, longest)
        return Looked(numbers)

    def _sites(self, model: Model, given: Sequence[Intervention]) -> list[Site]:
        require(
            len(given) == 1 and bool(given[0].deltas) and bool(self.sites),
            BadData(f"differences: got {len(given)} interventions and {len(self.sites)} sites; one adapter and one site at least are needed. Give both."),
        )  # fmt: skip
        if not model.untouched:
            raise BadModel(f"differences: an edit is attached; {model.name} itself is needed. Leave its context first.")
        sites, first = [Site.parse(text) for text in self.sites], min(s.block for s in given[0].deltas)
        low = [str(site) for site in sites if site.block < first]
        require(
            not low,
            BadData(f"differences at {', '.join(low)}: the adapter's first block is {first}, and below it nothing differs. Look at {first} or higher."),
        )  # fmt: skip
        return sites

    def _texts(
        self, model: Model, asked: Sequence[Question] | Sequence[Open] | Sequence[Passage]
    ) -> list[tuple[Ids, int, int]]:
        """Ids of each text, how many of the first are outliers, and the first position that predicts an answer's token (the end without one)."""
        found: list[tuple[Ids, int, int]] = []
        for text in self.passages:
            ids, skip = tokens(model, text)
            found.append((ids[: self.last], skip, len(ids)))
        for at, question in enumerate(q for q in asked if isinstance(q, Question)):
            rendered = model.render(question, self.template)
            ids = rendered.prompt + rendered.options[at % 2][0]
            found.append((ids, outliers(model, ids), len(rendered.prompt) - 1))
        require(bool(found), BadData("differences: got no texts; passages or questions are needed. Give some."))
        for at, (ids, skip, _) in enumerate(found):
            long_enough(f"differences, text {at}", ids, skip, 2, model.context)
        return found


def _of_text(x: Float[Tensor, "T D"], skip: int, answer: int) -> dict[str, float]:
    """The mean cosines of one text's differences, by name.

    Args:
        skip: how many of the first tokens are left out.
        answer: the first token at which one of the answer is predicted; the last token predicts none.
    """
    return {
        "cosine": _pairs(x[skip:]), "with_first": _pairs(x), "first": _to_rest(x[0], x[skip:]), "answer": _pairs(x[answer:-1]),
    }  # fmt: skip


def _directed(x: Float[Tensor, "T D"]) -> Tensor:
    """Which rows have a direction."""
    return x.norm(dim=1) > 0


def _map(x: Float[Tensor, "T D"]) -> Float[Tensor, "T T"]:
    """The cosine of every two rows; not a number for a row of zero."""
    known = _directed(x)
    found = torch.full((len(x), len(x)), torch.nan)
    if known.any():
        at = known.nonzero()[:, 0]
        found[at[:, None], at[None]] = cosines(x[known]).float()
    return found


def _pairs(x: Float[Tensor, "T D"]) -> float:
    """Mean cosine of two different rows, rows of zero left out."""
    x = x[_directed(x)]
    if len(x) < 2:
        return float("nan")
    return (float(cosines(x).sum()) - len(x)) / (len(x) * (len(x) - 1))


def _units(x: Float[Tensor, "T D"]) -> Float[Tensor, "T D"]:
    """The rows that are not zero, each of length one, float64."""
    wide = x[_directed(x)].double()
    return wide / wide.norm(dim=1, keepdim=True)


def _to_rest(first: Float[Tensor, " D"], rest: Float[Tensor, "T D"]) -> float:
    """Mean cosine of one row with others."""
    one, others = _units(first[None]), _units(rest)
    return float((others @ one.T).mean()) if len(one) and len(others) else float("nan")


def _across(texts: Sequence[Float[Tensor, "T D"]]) -> list[float]:
    """For each text the mean cosine of its rows with the rows of all others."""
    units = [_units(x) for x in texts]
    sums, counts = [u.sum(0) for u in units], [len(u) for u in units]
    found = []
    for at, (own, count) in enumerate(zip(sums, counts, strict=True)):
        pairs = count * (sum(counts) - count)
        others = torch.stack([s for other, s in enumerate(sums) if other != at]).sum(0) if pairs else own
        found.append(float(own @ others) / pairs if pairs else float("nan"))
    return found


def _shares(x: Float[Tensor, "T D"]) -> Float[Tensor, "2 C"]:
    """Shares of the first components, uncentred and centred; not a number where there is nothing to share out."""
    found = []
    for centred in (False, True):
        try:
            found.append(torch.tensor(explained(x, centred, COMPONENTS), dtype=torch.float32))
        except BadData:
            found.append(torch.full((COMPONENTS,), torch.nan))
    return torch.stack(found)


def _by_token(texts: Sequence[Float[Tensor, "T D"]], longest: int) -> Float[Tensor, "N L"]:
    """The norm of every row of every text, filled up with what is no number."""
    found = torch.full((len(texts), longest), torch.nan)
    for at, x in enumerate(texts):
        found[at, : len(x)] = norms(x).float()
    return found


def _only(model: Model, adapter: Intervention, sites: Sequence[Site]) -> tuple[int, LowRank] | None:
    """The number of the site at which an adapter of rank 1 on one module writes, and its delta; None for any other adapter."""
    if len(adapter.deltas) != 1:
        return None
    own, delta = next(iter(adapter.deltas.items()))
    places = [at for at, site in enumerate(sites) if model.resolve(site) == model.resolve(own)]
    return (places[0], delta) if isinstance(delta, LowRank) and delta.b.shape[1] == 1 and places else None


def _coefficients(
    added: Sequence[Float[Tensor, "T D"]], skips: Sequence[int], delta: LowRank, longest: int
) -> dict[str, Tensor]:
    """a·x at every token, from what it added: scale · (a·x) · B; and what its values are like."""
    b = delta.b[:, 0].detach().double().cpu()
    found = torch.full((len(added), longest), torch.nan, dtype=torch.float64)
    share, variation, identity = [], [], []
    for at, (x, skip) in enumerate(zip(added, skips, strict=True)):
        found[at, : len(x)] = x.double() @ b / (delta.scale * b.pow(2).sum())
        inner, units = found[at, skip : len(x)], _units(x[skip:])
        up = float((inner > 0).double().mean())
        share.append(max(up, 1 - up))
        variation.append(coefficient_of_variation(inner) if len(inner) > 1 and float(inner.mean()) else float("nan"))
        identity.append(float((units @ (b / b.norm())).abs().min()) if len(units) else float("nan"))
    return {
        "coefficients": found.float(), "sign_share": torch.tensor(share), "variation": torch.tensor(variation),
        "identity": torch.tensor(identity),
    }  # fmt: skip
