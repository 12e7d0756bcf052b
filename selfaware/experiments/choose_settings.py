"""choose-settings: sites, learning rates and epochs tried on the validation part, all of them reported, the best named."""

from dataclasses import dataclass, field, replace

from selfaware import stats
from selfaware.comparisons import measures
from selfaware.comparisons.arms import Arm, Asked, Findings
from selfaware.comparisons.comparison import Comparison
from selfaware.comparisons.measures import Measured
from selfaware.domains import loader
from selfaware.errors import BadData
from selfaware.experiments.first_look import Fitted
from selfaware.experiments.first_look import Settings as FirstLook
from selfaware.findings import pictures
from selfaware.interventions.anchored import Anchored
from selfaware.interventions.lora import Lora
from selfaware.interventions.steer import Vector
from selfaware.report.page import Claim, Table
from selfaware.stages import Bench
from selfaware.types import Form, Template

NAME = "choose-settings"
TITLE = "Settings tried on the validation part"
QUESTION = "At which site, learning rate and number of epochs does each method change choices on unseen topics most?"
CLAIMS: tuple[Claim, ...] = ()
HEADLINE = ("choice_share", "choice_share_effect", "choice_score_effect")
SCALES = ("smoke", "small", "full")


@dataclass(frozen=True)
class Settings:
    """What is tried. Every combination is fitted at both polarities; the test part is not touched.

    Attributes:
        rates: learning rates, the same for every small method.
        wide_rates: those of the LoRA on all linear modules.
        kls: weights of the divergence from the base model on neutral text that is added to the loss; 0 adds none.
        passages: neutral passages on which damage is read; training near the base model uses the others.
        more_vector_rates: tried for the vector as well, which the others' rates hardly move.
        lora_sites, vector_sites: where the rank-1 LoRA and the vector go.
    """

    seeds: tuple[int, ...] = (0,)
    form: Form = "cloze"
    template: Template = "raw"
    limit: int = 0
    epochs: tuple[int, ...] = (2,)
    rates: tuple[float, ...] = (0.003, 0.01, 0.03)
    more_vector_rates: tuple[float, ...] = (0.1, 0.3)
    wide_rates: tuple[float, ...] = (0.001, 0.003)
    kls: tuple[float, ...] = (0.0, 0.3)
    passages: int = 8
    lora_sites: tuple[str, ...] = ("15.mlp.down_proj",)
    vector_sites: tuple[str, ...] = ("15",)
    lora: Lora = field(default_factory=lambda: FirstLook().lora)
    wide: Lora = field(default_factory=lambda: FirstLook().wide)
    vector: Vector = field(default_factory=lambda: FirstLook().vector)


def settings(scale: str) -> Settings:
    """The settings of a scale: `full` adds sites, epochs and seeds."""
    if scale == "smoke":
        return Settings(
            limit=4, epochs=(1,), rates=(0.01,), more_vector_rates=(), wide_rates=(), kls=(0.0,), passages=2
        )
    if scale == "full":
        every = ("5", "10", "15", "20", "25")
        return Settings(
            seeds=(0, 1, 2), epochs=(2, 4, 8), lora_sites=tuple(f"{b}.mlp.down_proj" for b in every), vector_sites=every
        )
    return Settings()


def check(domain: loader.Domain) -> None:
    """Whether the domain has validation records.

    Raises:
        BadData: it has none.
    """
    if "validation" not in domain.parts.values():
        raise BadData(f"domain {domain.name}: its validation part is empty; choose-settings needs one. Add families.")


def comparison(bench: Bench, domain: loader.Domain, chosen: Settings) -> Comparison:
    """One arm for each combination."""
    cut = chosen.limit * 2 if chosen.limit else None
    examples = domain.questions("choices", "train", chosen.form)[:cut]
    arms: list[Arm] = []
    texts = tuple(p.text for p in loader.passages()[chosen.passages :])
    for epochs in chosen.epochs:
        tried: list[Lora | Vector] = []
        for site in chosen.lora_sites:
            tried += [_at(replace(chosen.lora, site=site), rate, epochs, chosen.template) for rate in chosen.rates]
        tried += [_at(chosen.wide, rate, epochs, chosen.template) for rate in chosen.wide_rates]
        for site in chosen.vector_sites:
            vector = replace(chosen.vector, site=site)
            rates = (*chosen.rates, *chosen.more_vector_rates)
            tried += [_at(vector, rate, epochs, chosen.template) for rate in rates]
        for recipe in tried:
            for kl in chosen.kls:
                label = f"{recipe.label}, {recipe.site}, rate {recipe.training.learning_rate:g}, {epochs} epochs"
                label += f", KL {kl:g}" if kl else ""
                made = Anchored(recipe, kl, texts) if kl else recipe
                about = "Fitted on the train part."
                arms.append(Arm(label, label, "arm", (made,), examples, about, recipe.site, recipe.positions))
    asked = Asked(
        "choices", domain.questions("choices", "validation", chosen.form)[:cut], chosen.template, part="validation"
    )
    damage = Asked("neutral", loader.passages()[: chosen.passages], chosen.template)
    return Comparison(bench, arms, [asked, damage], chosen.seeds)


def _at(recipe: Fitted, rate: float, epochs: int, template: Template) -> Fitted:
    return replace(recipe, training=replace(recipe.training, learning_rate=rate, epochs=epochs, template=template))


def findings(made: Comparison, domain: loader.Domain, chosen: Settings, model: str) -> Findings:
    """Every combination's effect on validation choices; no verdict, for nothing is claimed."""
    of = measures.known(made, measures.SHARE)
    found = measures.measured(made, of, model, domain.name)
    caption = "Half the difference between the share of high choices after high and after low training. One seed has no interval."
    drawn = pictures.effects(
        made, found, [("choice_share_effect", "choices", None)], "settings", "Effect on validation choices", caption
    )
    return Findings(found.rows, (), (drawn,), (_table(found, made), pictures.harm(made)))


def _table(found: Measured, made: Comparison) -> Table:
    """Every setting by its effect, largest first, with the damage that buys it."""
    rows = []
    for arm in made.arms:
        effect = found.effects[arm.name, "choice_share_effect"]
        kls = [
            r.value
            for r in found.rows
            if r.method == arm.label and r.measure == "kl_from_base" and r.kind == "absolute"
        ]
        worst = max((k for k in kls if k is not None), default=None)
        rows.append(
            (effect.value or 0.0, (arm.label, stats.spoken(effect), "unknown" if worst is None else f"{worst:.2f}"))
        )
    ordered = tuple(cells for _, cells in sorted(rows, key=lambda row: -row[0]))
    return Table(
        "settings", "Effect and damage", "Damage: KL from the base model on neutral text, nats a token, of the polarity that does more.",
        ("setting", "effect on validation choices", "damage"), ordered,
    )  # fmt: skip


def caveats(domain: loader.Domain, chosen: Settings) -> tuple[str, ...]:
    """What a reader of the page must keep in mind."""
    return (
        "These numbers chose the settings and say nothing about unseen topics: the test part does that.",
        f"{len(chosen.seeds)} seed(s); small differences between settings are noise.",
    )
