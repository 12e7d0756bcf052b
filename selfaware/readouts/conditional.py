"""Why a constant edit acts only where a trigger stands: queries, keys, values and patterns put back, and heads that look at the trigger.

Knows blocks, heads and tokens; must not know what the trigger stands for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from selfaware.errors import BadData, BadModel
from selfaware.interventions.base import Constant, Intervention
from selfaware.models.batch import Row
from selfaware.models.hf import Model
from selfaware.models.render import Ids, encode
from selfaware.readouts.base import Looked, OnStep
from selfaware.readouts.watching import Recorded, Runs
from selfaware.types import Open, Passage, Question, Template

PARTS = ("query", "key", "value", "pattern")
WAYS = ("base into edited", "edited into base")
TOP = (1, 3, 10)
"""So many heads are kept from the trigger at once."""


@dataclass(frozen=True)
class Conditional:
    """One edit, on questions that hold a trigger: what of the attention carries it, and which heads.

    For `Q` questions, `I` blocks where patching starts, `L` blocks, `H` heads:

    - `base`, `edited` `[Q]`: l_high − l_low, nats per token.
    - `patched` `[2, 4, I, Q]`: the same with one part (`PARTS`) of the other model put in at the edited positions, from a block (`starts`
      `[I]`) to the last; first the base model's into the edited one, then the other way round. Queries and keys are taken
      after norms and rotation; a query taken before them gives the same, for both are the same function of it at its position.
    - `attended` `[2, L, H, Q]`: the share of the last prompt token's attention that goes to the trigger, base and edited.
    - `match` `[L, H, Q]`: mean of q(edited)·k − q(base)·k, scaled, over the trigger's tokens, less that over the prompt's
      other tokens but the first.
    - `values` `[L, H, Q]`: what the head would write for the trigger, the mean of its values there through the output
      projection, along the direction, less the same of the other tokens; as a share of that write's length. `null` `[L, H, R]`: its mean
      over questions along random directions.
    - `order` `[L · H]`: heads by how far their attention to the trigger rises, first the one that gains most; as block · H + head.
    - `knocked` `[3, Q]`: l_high − l_low of the edited model when the first `TOP` heads of that order can't see the trigger;
      `spared` `[3, R, Q]`: so many random heads instead.

    Attributes:
        phrases: the trigger's texts; each question holds one.
        every: patching starts at every so many blocks, from the edit's own.
        draws: random directions, and random sets of heads.
        seed: of those draws.
    """

    phrases: tuple[str, ...]
    template: Template = "raw"
    every: int = 3
    draws: int = 8
    seed: int = 0

    @property
    def label(self) -> str:
        """As written beside a progress bar."""
        return "attention to the trigger"

    def look(
        self,
        model: Model,
        given: Sequence[Intervention],
        asked: Sequence[Question] | Sequence[Open] | Sequence[Passage],
        on_step: OnStep,
    ) -> Looked:
        """See the class. The second intervention, where there is one, gives the direction of `values`: a constant vector.

        Raises:
            BadData: no edit, an edit of whole prompts, or a question without the trigger, or one in which it is no token.
            BadModel: attention that does not go through the library's interface, or no output projection.
        """
        edit = self._edit(given)
        questions = [q for q in asked if isinstance(q, Question)]
        rows, spans = self._rows(model, questions)
        first = min(site.block for site in edit.deltas)
        runs = Runs(model, edit, rows, spans, len(questions), first)
        starts = list(range(first, len(model.blocks), self.every))
        plain, changed = runs.recorded(False), runs.recorded(True)
        on_step(0.05)
        patched = torch.zeros(len(WAYS), len(PARTS), len(starts), len(questions))
        for way, (into, source) in enumerate(((True, plain.seen), (False, changed.seen))):
            for number, part in enumerate(PARTS):
                for at, start in enumerate(starts):
                    patched[way, number, at] = runs.patched(into, part, start, source)
                on_step(0.05 + 0.8 * (way * len(PARTS) + number + 1) / (len(WAYS) * len(PARTS)))
        attended = torch.stack([plain.attended, changed.attended])
        gain = (attended[1] - attended[0]).mean(2)
        order = gain.flatten().argsort(descending=True)
        able = [b * gain.shape[1] + h for b in range(first, gain.shape[0]) for h in range(gain.shape[1])]
        draw = torch.Generator().manual_seed(self.seed)
        knocked, spared = [], []
        for count in TOP:
            knocked.append(runs.without(order[:count].tolist(), gain.shape[1]))
            spared.append(torch.stack([
                runs.without([able[i] for i in torch.randperm(len(able), generator=draw)[:count].tolist()], gain.shape[1])
                for _ in range(self.draws)
            ]))  # fmt: skip
        on_step(0.98)
        numbers = {
            "base": plain.scores, "edited": changed.scores, "patched": patched, "starts": torch.tensor(starts), "attended": attended,
            "match": _match(plain, changed), "order": order, "knocked": torch.stack(knocked), "spared": torch.stack(spared),
        }  # fmt: skip
        return Looked(numbers | self._values(model, given, plain, draw))

    def _edit(self, given: Sequence[Intervention]) -> Intervention:
        if not 1 <= len(given) <= 2 or not given[0].deltas:
            raise BadData(
                f"attention to the trigger: got {len(given)} interventions; an edit, and at most one vector beside it, are needed. Fit them first."
            )
        if given[0].positions == "all":
            raise BadData(
                "attention to the trigger: the edit acts on whole prompts, the trigger's own keys and values included; one at answer or last_prompt is needed. Fit it there."
            )
        return given[0]

    def _rows(self, model: Model, questions: Sequence[Question]) -> tuple[list[Row], list[tuple[int, int]]]:
        """Two rows a question, one for each option, the high one first; and the trigger's tokens in each question's prompt."""
        rows, spans = [], []
        for q in questions:
            made = model.render(q, self.template)
            spans.append(span(model, made.text, made.prompt, self.phrases, self.template, q.id))
            for option in (q.high, 1 - q.high):
                rows.append(Row(made.prompt, made.options[option][0]))
        return rows, spans

    def _values(
        self, model: Model, given: Sequence[Intervention], plain: Recorded, draw: torch.Generator
    ) -> dict[str, Tensor]:
        found = [d.v for i in given[1:] for d in i.deltas.values() if isinstance(d, Constant)]
        if not found:
            return {}
        own = found[0].float().cpu()
        away = torch.randn(self.draws, len(own), generator=draw)
        directions = torch.cat([own[None], away])
        directions = directions / directions.norm(dim=1, keepdim=True)
        made = torch.stack([
            _writes(output_projection(model, block), plain.values[block], plain.others[block], directions.to(model.device))
            for block in range(len(model.blocks))
        ])  # fmt: skip
        return {"values": made[:, :, 0], "null": made[:, :, 1:].mean(3)}


def span(model: Model, text: str, prompt: Ids, phrases: Sequence[str], template: Template, name: str) -> tuple[int, int]:  # fmt: skip
    """The first and the last but one token of the trigger in a prompt.

    Raises:
        BadData: no phrase stands in it, or none of its tokens is the phrase's own.
    """
    phrase = next((p for p in sorted(phrases, key=len, reverse=True) if p in text), None)
    if phrase is None:
        raise BadData(f"question {name}: none of the {len(phrases)} phrases stands in it. Put the trigger in.")
    at = text.rindex(phrase)
    start = len(_shared(encode(model.tokenizer, text[:at], template) if at else (), prompt))
    rest = len(_shared(tuple(reversed(encode(model.tokenizer, text[at + len(phrase) :], template))), tuple(reversed(prompt)))) if at + len(phrase) < len(text) else 0  # fmt: skip
    end = max(start, len(prompt) - rest)
    if end <= start:
        raise BadData(
            f"question {name}: phrase {phrase!r} is no token of its own to {model.name}; one at least is needed. Use another trigger."
        )
    return start, min(end, len(prompt) - 1)


def _shared(first: Ids, second: Ids) -> Ids:
    """The beginning that both have."""
    count = next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second)))  # fmt: skip
    return second[:count]


def output_projection(model: Model, block: int) -> nn.Linear:
    """The linear module that turns what the heads of a block give into what it writes.

    Raises:
        BadModel: the block has none that is recognised.
    """
    found = [m for n, m in model.blocks[block].named_modules() if n.split(".")[-1] in ("o_proj", "out_proj", "dense") and "mlp" not in n]  # fmt: skip
    if len(found) != 1 or not isinstance(found[0], nn.Linear):
        raise BadModel(
            f"block {block} of {model.name}: {len(found)} output projections of attention; one, named o_proj, out_proj or dense, is needed. Use a model with plain attention."
        )
    return found[0]


def _writes(out: nn.Linear, trigger: Tensor, others: Tensor, directions: Tensor) -> Float[Tensor, "H K Q"]:
    """How far what a head writes for the trigger points along each direction, less that of the other tokens; values `[Q, H, d]`."""
    heads, size = trigger.shape[1], trigger.shape[2]
    weight = out.weight.detach().float().view(out.out_features, heads, size)
    made = []
    for values in (trigger, others):
        written = torch.einsum("qhd,ohd->qho", values.float(), weight)
        along = torch.einsum("qho,ko->hkq", written, directions.float())
        made.append(along / written.norm(dim=2).T[:, None].clamp(min=1e-9))
    return (made[0] - made[1]).cpu()


def _match(plain: Recorded, changed: Recorded) -> Float[Tensor, "L H Q"]:
    return (changed.trigger_scores - plain.trigger_scores) - (changed.other_scores - plain.other_scores)
