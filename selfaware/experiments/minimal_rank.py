"""minimal-rank: how small a LoRA still changes behaviour and self-report as much as a large one on every module."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from selfaware.comparisons import instrument, measures, shared
from selfaware.comparisons.arms import Arm, Findings
from selfaware.comparisons.comparison import Comparison
from selfaware.comparisons.shared import Shared
from selfaware.domains import loader
from selfaware.errors import BadData
from selfaware.findings import harm, pictures, shares
from selfaware.interventions.controls import Scrambled
from selfaware.interventions.lora import Lora
from selfaware.report.page import Claim, Role
from selfaware.stages import Bench
from selfaware.types import Question, Verdict

NAME = "minimal-rank"
TITLE = "Minimal rank: how small can the adapter be?"
QUESTION = "Is a rank-1 LoRA on one module as good as a large one on all of them, for behaviour and for self-report?"
CLAIMS = (
    Claim(
        "rank-1-behaves",
        "A rank-1 LoRA on one module changes choices no less than the largest adapter on all modules, but for the margin.",
        "Rank 1 on one layer is comparable to rank 32 on all layers and modules (Bozoukov et al. 2025; no numbers given).",
    ),
    Claim(
        "rank-1-reports",
        "It changes what the model says about itself no less than the largest adapter does, but for the margin.",
        "The same (Bozoukov et al. 2025).",
    ),
)
HEADLINE = (
    "choice_share_effect",
    "share_of_widest_behaviour",
    "recovered_behaviour_at_equal_damage",
    "self_effect",
    "share_of_widest_report",
    "kl_from_base",
)
SCALES = ("smoke", "small", "full")
WIDEST, SCRAMBLED = "widest", "scrambled"


@dataclass(frozen=True)
class Settings:
    """What is tried.

    Attributes:
        shared: fits and questions; `shared.lora` gives the module, the scale and the training of the small ones,
            `shared.wide` is the adapter that the others are held against.
        module_ranks, mlp_ranks, all_ranks: ranks tried on the one module, on the linear modules of its MLP, and on all
            linear modules of the model.
        mlp_rate, all_rate: learning rates of those on the MLP and on all modules.
        margin: share of the widest adapter's effect that may be missing.
        wordings: system prompts of each polarity that check the questions.
    """

    shared: Shared = field(default_factory=Shared)
    module_ranks: tuple[int, ...] = (1, 8, 32)
    mlp_ranks: tuple[int, ...] = (4,)
    all_ranks: tuple[int, ...] = ()
    mlp_rate: float = 0.01
    all_rate: float = 0.001
    margin: float = 0.2
    wordings: int = 3


def settings(scale: str) -> Settings:
    """The settings of a scale: `full` has every rank at every place, and five seeds."""
    if scale == "smoke":
        return Settings(shared.smoke(), module_ranks=(1, 2), mlp_ranks=(2,), wordings=2)
    if scale == "full":
        every = (1, 2, 4, 8, 32)
        return Settings(shared.full(), every, every, every[:-1], wordings=5)
    return Settings()


check = shared.check


def comparison(bench: Bench, domain: loader.Domain, chosen: Settings) -> Comparison:
    """One arm for each rank and place, the widest, and a scrambled copy of the smallest.

    Raises:
        BadData: no rank, one below 1, or one above the width of the model.
    """
    common = chosen.shared
    _in_range((*chosen.module_ranks, *chosen.mlp_ranks, *chosen.all_ranks, common.wide.rank), bench)
    if not chosen.module_ranks:
        raise BadData("minimal-rank: module_ranks is empty; the claims are about its first. Set it, to 1 or more.")
    examples, small, wide = common.examples(domain), common.templated(common.lora), common.templated(common.wide)
    mlp = f"{small.site.split('.')[0]}.mlp"
    tried = [(f"module-{r}", replace(small, rank=r)) for r in chosen.module_ranks]
    tried += [(f"mlp-{r}", _at(small, mlp, r, chosen.mlp_rate)) for r in chosen.mlp_ranks]
    tried += [(f"all-{r}", _at(small, wide.site, r, chosen.all_rate)) for r in chosen.all_ranks]
    arms = [_arm(name, recipe, examples, "arm" if at else "primary") for at, (name, recipe) in enumerate(tried)]
    arms += harm.multiples(arms[0], tried[0][1])
    arms.append(_arm(WIDEST, wide, examples, "arm"))
    arms.append(Arm(SCRAMBLED, f"scrambled {arms[0].label}", "control", (Scrambled(tried[0][1]),), examples,
                    "The smallest adapter with a Gaussian B of the same length: it fires when that one does, and writes in a random direction.",
                    small.site, small.positions, sets=("choices", "self")))  # fmt: skip
    asked = common.sets(domain)
    arms += instrument.arms(domain, wide, chosen.wordings, asked, trained=False)
    return Comparison(bench, arms, asked, common.seeds)


def _in_range(ranks: Sequence[int], bench: Bench) -> None:
    width = bench.width
    wrong = [r for r in ranks if not 1 <= r <= width]
    if wrong:
        raise BadData(
            f"minimal-rank: rank {wrong[0]}; one of 1 to {width}, the width of {bench.local.name}, beyond which a rank adds nothing, is needed. Set module_ranks, mlp_ranks, all_ranks and shared.wide.rank so."
        )


def _at(recipe: Lora, site: str, rank: int, rate: float) -> Lora:
    return replace(recipe, site=site, rank=rank, training=replace(recipe.training, learning_rate=rate))


def _arm(name: str, recipe: Lora, examples: tuple[Question, ...], role: Role) -> Arm:
    label = f"rank {recipe.rank}, {recipe.site}"
    return Arm(
        name, label, role, (recipe,), examples, f"{recipe.label} on {recipe.site}.", recipe.site, recipe.positions
    )


JUDGED = (
    ("rank-1-behaves", "choice_share_effect", "share_of_widest_behaviour", "choices"),
    ("rank-1-reports", "self_effect", "share_of_widest_report", "self"),
)


def findings(made: Comparison, domain: loader.Domain, chosen: Settings, model: str) -> Findings:
    """Effects of every adapter, each as a share of the widest one's, and which is the smallest that is not inferior."""
    of = measures.known(made, f"share of {domain.polarities['high']} choices")
    found = measures.measured(made, of, model, domain.name)
    checks = instrument.checks(made, of, domain)
    margins = {name: instrument.margin(domain, name) for name in checks}
    tried, widest = (
        [a for a in made.arms if a.role in ("primary", "arm") and a.name != WIDEST and not harm.is_multiple(a)],
        made.named_arm(WIDEST),
    )
    rows, verdicts = list(found.rows), []
    for claim, effect, name, set in JUDGED:
        usable = set not in checks or checks[set].sensitive
        beside = [*tried, made.named_arm(SCRAMBLED)]
        rows += [shares.row(found, arm, widest, effect, name, set, model, domain.name) for arm in beside]
        answers = [shares.answer(found, a, widest, effect, 1 - chosen.margin, usable=usable) for a in tried]
        enough = [a.label for a, (said, _) in zip(tried, answers, strict=True) if said == "yes"]
        smallest = f" Smallest that is not inferior: {enough[0] if enough else 'none of those tried'}."
        said, why = answers[0]
        smallest += harm.text(made, found, tried[0], widest, effect)
        control = f" Control: {shares.text(found, made.named_arm(SCRAMBLED), widest, effect)}"
        verdicts.append(Verdict(claim, said, why, shares.text(found, tried[0], widest, effect) + smallest + control))
    rows += harm.rows(made, found, tried[0], widest, model, domain.name)
    panels = [("choice_share_effect", "choices", None), ("self_effect", "about itself", margins.get("self"))]
    drawn = pictures.effects(
        made, found, panels, "ranks", "Effect by rank and place",
        "Half the difference between the shifts after high and after low training, smallest adapter first.",
    )  # fmt: skip
    small = [*tried, made.named_arm(SCRAMBLED)]
    whole = [(effect, title) for effect, title, _ in panels]
    part = shares.figure(found, small, widest, whole, "shares", "Share of the widest adapter's effect")
    tables = (instrument.table(made, checks, margins), pictures.harm(made))
    return Findings(tuple(rows), tuple(verdicts), (drawn, part, harm.figure(made, found, tried[0], widest)), tables)


def caveats(domain: loader.Domain, chosen: Settings) -> tuple[str, ...]:
    """What a reader of the page must keep in mind."""
    return (
        f"Not inferior means: at least {1 - chosen.margin:.0%} of the widest adapter's effect, with the whole interval.",
        "Each place has its own learning rate; the ranks at one place share it, and a better one may exist for each.",
        "Adapters of the same effect may differ in damage: the smallest one's share at equal damage stands beside that at its own strength.",
        *(() if len(chosen.shared.seeds) > 1 else ("One seed gives no interval, so every verdict is unclear.",)),
    )
