"""Which tokens one vector speaks for, with the counts that random directions would have. Knows a vocabulary; must not know a behaviour."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from selfaware.errors import BadData
from selfaware.interventions.ablate import in_residual
from selfaware.interventions.base import Intervention
from selfaware.interventions.distil import vector_of
from selfaware.interventions.texts import long_enough, outputs, rows_over, tokens
from selfaware.models.batch import Row
from selfaware.models.hf import Model
from selfaware.readouts.base import Looked, OnStep
from selfaware.readouts.unembed import (
    DIRECTIONS,
    By,
    Kind,
    Values,
    beginning,
    by_cosine,
    by_logits,
    checked_head,
    counts,
    known_tokens,
    random_directions,
    read_out,
)
from selfaware.types import Open, Passage, Question, Site, Template, require

BYS: tuple[By, ...] = ("cosine", "logits")
NULLS: tuple[Kind, ...] = ("isotropic", "covariance")


@dataclass(frozen=True)
class Tokens:
    """The tokens at both ends of one intervention's vector, by cosine with the unembedding and by change of logits.

    Logits are those after the last block's mean output over the texts asked, and the covariance of the second null is that of
    these outputs; the first tokens of passages (`outliers`) are left out, of questions the positions of their first option
    count. What is seen, for `by` either of `cosine` and `logits`, `W` lists of words and two ends, top and bottom:

    - words `{by}/top`, `{by}/bottom`: the tokens, the outermost first; numbers `{by}/top`, `{by}/bottom` `[count]`: their values.
    - `{by}/marked` `[2, count]`: the number of the list that the token is counted in, −1 for none (0 and up, as lists are ordered).
    - `{by}/found` `[2, W]`: how many tokens at an end begin with a stem of the list.
    - `{by}/isotropic`, `{by}/covariance` `[draws, 2, W]`: the same for random directions as long as the vector. All looks with one
      seed and the same texts draw the same directions, so that counts can be summed over looks draw by draw.
    - `vocabulary` `[W]`: how many tokens the list has at all. `norm` `[1]`: of the vector.

    Attributes:
        count: tokens at each end.
        draws: random directions of each kind.
        words: stems by the list's name; see `unembed.read_out`.
        template: how questions are written.
        seed: of the draws.
    """

    count: int
    draws: int
    words: Mapping[str, tuple[str, ...]]
    template: Template
    seed: int = 0

    @property
    def label(self) -> str:
        """As written beside a progress bar."""
        return "tokens of the vector"

    def look(
        self,
        model: Model,
        given: Sequence[Intervention],
        asked: Sequence[Question] | Sequence[Open] | Sequence[Passage],
        on_step: OnStep,
    ) -> Looked:
        """See the class. Costs a pass over the texts, and the vocabulary against every random direction.

        Raises:
            BadData: not one vector, one that is not in the residual stream's units, no lists of words, no texts or one that is
                too short, or anything that `unembed.read_out` refuses.
            BadModel: as there.
        """
        require(
            len(given) == 1, BadData(f"tokens: got {len(given)} interventions; one vector is needed. Fit it first.")
        )
        site, v = vector_of(self.label, given[0])
        require(
            in_residual(model, site),
            BadData(f"tokens: got a vector at {site}; one in the residual stream's units is needed. Take it at {site.block}, or at {site.block}.mlp.residual."),
        )  # fmt: skip
        require(
            bool(self.words) and self.draws > 0,
            BadData(f"tokens: got {len(self.words)} lists of words and {self.draws} draws; one of each at least is needed. Give them."),
        )  # fmt: skip
        sample = self._sample(model, asked)
        state = sample.mean(0)
        on_step(0.3)
        found = read_out(model, v, self.count, 0, self.seed, {}, state, sample)
        head, v = checked_head(model, v, state, sample), v.to(model.device)
        known = known_tokens(model.tokenizer, len(head.weight)).to(model.device)
        masks = beginning(model.tokenizer, known, self.words)
        lists = torch.stack(list(masks.values())).long()  # [W, V]
        numbers: dict[str, Tensor] = {"vocabulary": lists.sum(1), "norm": v.norm()[None]}
        words: dict[str, tuple[str, ...]] = {}
        ways: tuple[Values, ...] = (by_cosine(head), by_logits(model, state.to(model.device)))
        for number, (ranking, values) in enumerate(zip(found.rankings, ways, strict=True)):
            by, marked = ranking.by, []
            for end, some in (("top", ranking.top), ("bottom", ranking.bottom)):
                words[f"{by}/{end}"] = tuple(t.text for t in some)
                numbers[f"{by}/{end}"] = torch.tensor([t.value for t in some])
                held = lists[:, [t.id for t in some]]
                marked.append(torch.where(held.any(0), held.argmax(0), -1))
            numbers[f"{by}/marked"] = torch.stack(marked)
            numbers[f"{by}/found"] = counts(values(v[None]), masks, known, self.count)[0].T
            for at, kind in enumerate(NULLS):
                drawn = random_directions(
                    v, self.draws, self.seed, sample.to(model.device) if kind == "covariance" else None
                )
                parts = [counts(values(part), masks, known, self.count) for part in torch.split(drawn, DIRECTIONS)]
                numbers[f"{by}/{kind}"] = torch.cat(parts).transpose(1, 2)
                on_step(0.3 + 0.7 * (2 * number + at + 1) / 4)
        return Looked(numbers, words)

    def _sample(
        self, model: Model, asked: Sequence[Question] | Sequence[Open] | Sequence[Passage]
    ) -> Float[Tensor, "N D"]:
        """What leaves the last block, token by token."""
        rows, skips = list[Row](), list[int]()
        for one in asked:
            if isinstance(one, Passage):
                ids, skip = tokens(model, one.text)
                long_enough(f"passage {one.id}", ids, skip, 1, model.context)
                rows += rows_over(ids, skip, len(ids) - skip, "answer")
                skips.append(1)  # what a row gives begins at the token before, an outlier
            elif isinstance(one, Question):
                rendered = model.render(one, self.template)
                rows.append(Row(rendered.prompt, rendered.options[0][0]))
                skips.append(0)
        require(bool(rows), BadData("tokens: got no texts; passages or questions are needed. Give some."))
        (found,) = outputs(model, [Site(len(model.blocks) - 1)], rows)
        return torch.cat([made[skip:] for made, skip in zip(found, skips, strict=True)])
