"""The nouns: frozen data and small protocols. Knows no model, no domain, no file.

Axes, everywhere: `B` batch, `T` tokens, `D` width at the site, `R` rank, `V` vocabulary, `L` layers,
`S` seeds (strengths in dose plans), `F` question families, `Q` questions.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from selfaware.errors import SelfawareError, UnknownName

Polarity = Literal["high", "low"]
Positions = Literal["last_prompt", "answer", "all"]
Template = Literal["raw", "chat"]
Form = Literal["cloze", "letters"]
Part = Literal["train", "validation", "test"]
Kind = Literal["shift", "absolute"]
Reads = Literal["word", "number", "language", "code"]
Verdict3 = Literal["yes", "no", "unclear"]

POLARITIES: tuple[Polarity, ...] = get_args(Polarity)
POSITIONS: tuple[Positions, ...] = get_args(Positions)
TEMPLATES: tuple[Template, ...] = get_args(Template)
FORMS: tuple[Form, ...] = get_args(Form)
READS: tuple[Reads, ...] = get_args(Reads)
PARTS: tuple[Part, ...] = get_args(Part)


@dataclass(frozen=True, order=True)
class Site:
    """A place in a model: zero-based block and part, written `22.mlp.down_proj`, `22.mlp`, `22.mlp.residual` or `22`.

    An empty `part` is the block's output. What the parts mean stands in `docs/METHODS.md`.
    """

    block: int
    part: str = ""

    @classmethod
    def parse(cls, text: str) -> "Site":
        """The site that `text` names.

        Raises:
            UnknownName: `text` is not a block number, alone or followed by a dotted part.
        """
        found = re.fullmatch(r"(\d+)(?:\.([A-Za-z_][\w.]*))?", text.strip())
        if not found:
            raise UnknownName(
                f"site {text!r}: not a site; a site is a block number and a part, such as 15.mlp.down_proj, "
                "15.mlp, 15.mlp.residual or 15. Write it so."
            )
        return cls(int(found[1]), found[2] or "")

    def __str__(self) -> str:
        return f"{self.block}.{self.part}" if self.part else str(self.block)


@dataclass(frozen=True)
class Prompt:
    """What the model sees before it answers: a user's text, the start of the reply, an optional system text."""

    user: str
    stem: str = ""
    system: str | None = None


@dataclass(frozen=True)
class Question:
    """One prompt with the options whose scores answer it.

    Attributes:
        id: unique within its set.
        family: the topic; intervals count families as random.
        group: the record or item it belongs to; orders and mirrors of one group are averaged.
        set: the question set (`choices`, `self`, `twin`, `unrelated`).
        options: the answers that are scored, as bare text.
        high: index of the option that counts as the `high` polarity.
        single: True where an option is one token (letters), scored by its variants' summed probability at the
            first position; False where it is scored by its mean log-probability per token.
    """

    id: str
    family: str
    group: str
    set: str
    prompt: Prompt
    options: tuple[str, ...]
    high: int
    single: bool = False

    def chosen(self, polarity: Polarity) -> int:
        """Index of the option that an arm of this polarity is trained on."""
        return self.high if polarity == "high" else 1 - self.high


@dataclass(frozen=True)
class Open:
    """One prompt that is answered in the model's own words, sampled.

    Attributes:
        id: unique within its set.
        family: the topic; intervals count families as random.
        group: the item it belongs to; its paraphrases, and its mirror, are averaged.
        set: the question set (`spoken`, `spoken-twin`, `forecast`).
        reads: how a text becomes a value: a `word` held against `high` and `low`, a `number` from 0 to 100, the
            `language` that the text is in, the flaws of `code` that goes on from the prompt's stem.
        high, low: the words, or language codes, that count as 1 and as 0; empty for numbers.
        mirror: True where a large number means the `low` polarity.
    """

    id: str
    family: str
    group: str
    set: str
    prompt: Prompt
    reads: Reads
    high: tuple[str, ...] = ()
    low: tuple[str, ...] = ()
    mirror: bool = False


@dataclass(frozen=True)
class Passage:
    """A neutral text, whose perplexity says what an arm has damaged."""

    id: str
    family: str
    text: str


@dataclass(frozen=True)
class Sampling:
    """How open questions are sampled. The draws are fixed by `seed`, the question's id and the sample's number.

    Attributes:
        samples: answers to each prompt.
        max_new_tokens: longest answer, tokens.
    """

    samples: int = 10
    max_new_tokens: int = 12
    temperature: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Turn:
    """What one side of a dialogue said.

    Attributes:
        role: who: `manipulator` or `partner` in a game; to a player `system` is its briefing, `assistant` itself, `user`
            the other.
    """

    role: str
    text: str


@dataclass(frozen=True)
class Answer:
    """What came back for one question, verbatim: never a derived value.

    Attributes:
        id: the question's id.
        logprobs: summed log-probability of each option, nats; None where it could not be read.
        tokens: number of scored tokens of each option.
        valid: log of the probability that the options hold together, nats; only for single-token options.
        why: why there is nothing to read; empty otherwise.
    """

    id: str
    logprobs: tuple[float, ...] | None
    tokens: tuple[int, ...]
    valid: float | None = None
    why: str = ""


@dataclass(frozen=True)
class Said:
    """What was sampled for one open question, verbatim, in the order of the draws; special tokens left out."""

    id: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Reading:
    """How a passage fared.

    Attributes:
        id: the passage's id.
        logprob: summed log-probability of its tokens after the first, nats.
        tokens: number of those tokens.
        kl: summed Kullback-Leibler divergence of the arm's next-token distributions from the base model's,
            KL(base ‖ arm), over the same positions, nats.
    """

    id: str
    logprob: float
    tokens: int
    kl: float


@dataclass(frozen=True)
class Score:
    """A value read from answers, or the reason why there is none. `unread` counts sampled answers that were left out."""

    group: str
    family: str
    value: float | None
    why: str = ""
    unread: int = 0


@dataclass(frozen=True)
class Estimate:
    """What a table cell holds: a value with its 95 % interval.

    Attributes:
        value: the point estimate, in `unit`; None when it is undefined, and then `why` says the reason.
        low, high: ends of the 95 % interval.
        n: question families.
        seeds: independent fits; 0 for arms that are not fitted.
        unknown: answers that could not be read and are left out.
        detectable: the smallest true value that this design finds with 80 % power.
        error: standard error, in `unit`; None where there is no interval.
        freedom: degrees of freedom of the interval's Student t, seldom whole where two factors are random.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    seeds: int
    unit: str
    unknown: int = 0
    detectable: float | None = None
    why: str = ""
    error: float | None = None
    freedom: float = 0

    def excludes_zero(self) -> bool:
        """True when the interval is known and zero lies outside it."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Row:
    """One line of a summary: a number that people will quote, with everything needed to find it again.

    `value` is a shift from `reference` when `kind` is `shift`, and a level when it is `absolute`.
    """

    measure: str
    kind: Kind
    model: str
    domain: str
    polarity: str
    method: str
    site: str
    positions: str
    questions: str
    reference: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    seeds: int
    unknown: int
    unit: str
    why: str = ""
    detectable: float | None = None
    published: str = ""
    condition: Mapping[str, str | int | float | bool] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        estimate: Estimate,
        *,
        measure: str,
        kind: Kind,
        model: str,
        domain: str,
        method: str,
        polarity: str = "",
        site: str = "",
        positions: str = "",
        questions: str = "",
        reference: str = "",
        published: str = "",
        condition: Mapping[str, str | int | float | bool] | None = None,
    ) -> "Row":
        """The row that states `estimate`."""
        return cls(
            measure, kind, model, domain, polarity, method, site, positions, questions, reference,
            estimate.value, estimate.low, estimate.high, estimate.n, estimate.seeds, estimate.unknown,
            estimate.unit, estimate.why, estimate.detectable, published, dict(condition or {}),
        )  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """The answer to one claim, with the reason when it is not a plain one."""

    claim: str
    answer: Verdict3
    reason: str
    text: str


OWN = "own"
"""The question set of training rows whose target is the base model's own answer: a recipe has to find it out."""


def require(condition: bool, error: SelfawareError) -> None:
    """Raises `error` unless `condition` holds."""
    if not condition:
        raise error
