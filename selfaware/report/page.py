"""What a page is made of: frozen data that an experiment fills in. Knows no model, no torch, no HTML.

An experiment says what stands on its page with these nouns; `report.html` draws them, `report.summary` writes
the same numbers as JSON and CSV.
"""

from dataclasses import dataclass, field
from typing import Literal

from selfaware.types import Estimate, Row, Verdict

Role = Literal["primary", "arm", "control", "base", "instrument"]


@dataclass(frozen=True)
class Claim:
    """What the experiment tests, beside what was published.

    Attributes:
        name: as in the verdict, for example `behaviour-learned`.
        text: the claim in one sentence.
        published: the published number or sentence, with its source; empty where there is none.
    """

    name: str
    text: str
    published: str = ""


@dataclass(frozen=True)
class Mark:
    """One estimate in a figure: a dot with its interval.

    Attributes:
        label: the arm, as written on the axis.
        polarity: `high`, `low` or empty (effects and controls without one): decides the colour and the shape.
        role: decides the weight: the primary arm stands out, controls are hollow.
        points: the single values behind the estimate (one for each seed), drawn small.
        note: a word or two beside the label, muted, for example `insensitive`.
    """

    label: str
    estimate: Estimate
    polarity: str = ""
    role: Role = "arm"
    points: tuple[float, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Panel:
    """One axis of a figure: marks under each other, with lines to compare with.

    Attributes:
        zero: where the line of no effect stands; None for no line.
        band: an interval to shade (the margin within which an effect counts as none); None for no band.
    """

    title: str
    unit: str
    marks: tuple[Mark, ...]
    zero: float | None = 0.0
    band: tuple[float, float] | None = None


@dataclass(frozen=True)
class Line:
    """One curve: estimates over a number.

    Attributes:
        label: the arm, written where the curve ends.
        x: rising.
        estimates: one for each `x`; an undefined one is a gap.
        polarity: decides the colour, as in `Mark`.
        role: decides the weight: the primary arm is heavier, controls are dashed and hollow.
    """

    label: str
    x: tuple[float, ...]
    estimates: tuple[Estimate, ...]
    polarity: str = ""
    role: Role = "arm"


@dataclass(frozen=True)
class Curves:
    """Lines over one axis, each with the band of its 95 % intervals: an effect over depth, or over dose.

    Attributes:
        unit: of the estimates.
        over: what `x` is, with its unit, for example `block`.
        zero: where the line of no effect stands; None for no line.
        band: a margin on the estimates' axis, shaded across; None for none.
        span: a published or expected range of `x`, shaded from top to bottom; None for none.
        span_label: what the span is; written into it.
        log: whether equal ratios of `x` are equally far: base 2, or symmetric about zero where some `x` is not
            positive.
    """

    title: str
    unit: str
    over: str
    lines: tuple[Line, ...]
    zero: float | None = 0.0
    band: tuple[float, float] | None = None
    span: tuple[float, float] | None = None
    span_label: str = ""
    log: bool = False


@dataclass(frozen=True)
class Heat:
    """A table of numbers as colours: cosines, effects of one domain on another, layers by doses.

    Attributes:
        values: by row, then column; None is drawn as unknown.
        limits: the ends of the colour scale; what lies beyond has the colour of the end. Where they lie on both sides
            of zero, equal sizes have equal strength on either side.
        notes: a small text for each cell (an interval), in the shape of `values`; drawn where cells are large enough.
        over: what the rows and what the columns are.
    """

    title: str
    unit: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    limits: tuple[float, float]
    notes: tuple[tuple[str, ...], ...] = ()
    over: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class Ranked:
    """Words in order, with a bar each: the tokens of a direction.

    Attributes:
        words: verbatim, in any script; spaces at the ends and control characters are made visible.
        values: one for each word.
        marked: one for each word: whether it is one of those that are counted, drawn bold; empty for none.
    """

    title: str
    unit: str
    words: tuple[str, ...]
    values: tuple[float, ...]
    marked: tuple[bool, ...] = ()


AnyPanel = Panel | Curves | Heat | Ranked


@dataclass(frozen=True)
class Figure:
    """Panels side by side, with a title that says the finding's subject and a caption that says how to read it.

    Attributes:
        panels: all of one kind.
    """

    name: str
    title: str
    caption: str
    panels: tuple[AnyPanel, ...]


@dataclass(frozen=True)
class Reply:
    """What one arm answered to one question: where the score comes from.

    The fields from `method` on place it in the question's figure; without a `method` in any reply there is no figure.

    Attributes:
        arm: the arm with its polarity and seed, for example `LoRA rank 1 · high · seed 0`.
        cell: id of the ask cell that holds the raw answer.
        logprobs: each option's score, nats (per token, or of the whole letter), None where unread.
        value: the score towards `high`, in the item's unit; None where unread, and then `why` says the reason.
        why: why it is unread; beside a value, what was left out of it.
        method: the arm without polarity and seed: replies of one method share a row of the figure.
        polarity: `high`, `low` or empty, as in `Mark`.
        seed: the fit's seed; None for arms that are not fitted.
        role: as in `Mark`.
        form: how the question was asked where that can differ (`shown`, `mirror`); forms stand beside each other.
        said: the sampled texts, verbatim, in the order of the draws.
    """

    arm: str
    cell: str
    logprobs: tuple[float, ...] | None
    value: float | None
    why: str = ""
    method: str = ""
    polarity: str = ""
    seed: int | None = None
    role: Role = "arm"
    form: str = ""
    said: tuple[str, ...] = ()


@dataclass(frozen=True)
class Item:
    """One question with every arm's reply to it.

    Attributes:
        set: the question set.
        text: the prompt as the model saw it (rendered, special tokens included).
        options: the options' texts, none for a question that is answered freely.
        high: index of the option that counts as high.
        group: questions of one set, group, unit and zero (an item and its mirror, both orders of the options) share
            a figure and stand under each other; an empty one stands alone.
        unit: of the replies' values.
        zero: the value that leans neither way; None where values are not towards `high` (a passage's perplexity).
        flag: a word beside the item's name, for example `insensitive`.
    """

    id: str
    set: str
    family: str
    text: str
    options: tuple[str, ...]
    high: int
    replies: tuple[Reply, ...] = ()
    group: str = ""
    unit: str = "nats"
    zero: float | None = 0.0
    flag: str = ""


@dataclass(frozen=True)
class Table:
    """Numbers beside the claims: baselines, checks of the instrument, what could not be read.

    Attributes:
        name: unique on the page; its anchor is `table-<name>`.
        caption: how to read it; may be empty.
        rows: cells as text, as many in each row as there are columns; the first names the row.
    """

    name: str
    title: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Page:
    """Everything on one experiment's page.

    Attributes:
        name: the experiment's name.
        title: the page's heading.
        question: what the experiment asks, in one sentence.
        settings: label and text pairs: model, domain, scale, site, objective, learning rate, dtype, template …
        headline: names of the rows' measures that stand in the top-line table, in order.
        arms: label and text pairs that say what each arm is.
        reproduce: commands that make the page again.
        environment: label and text pairs: package versions, device, seconds, peak memory, commit.
        caveats: what a reader must keep in mind, one sentence each.
        failures: what failed, and why.
        tables: stand after the figures.
    """

    name: str
    title: str
    question: str
    settings: tuple[tuple[str, str], ...]
    claims: tuple[Claim, ...]
    verdicts: tuple[Verdict, ...]
    figures: tuple[Figure, ...]
    headline: tuple[str, ...]
    rows: tuple[Row, ...]
    arms: tuple[tuple[str, str], ...]
    items: tuple[Item, ...]
    reproduce: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    caveats: tuple[str, ...]
    failures: tuple[tuple[str, str], ...] = field(default=())
    tables: tuple[Table, ...] = ()
