"""choose-settings: sites, learning rates and epochs tried on the validation part, all of them reported, the best named."""

from dataclasses import dataclass, field, replace

from selfaware.domains import loader
from selfaware.errors import BadData
from selfaware.experiments import measures, pictures
from selfaware.experiments.arms import Arm, Asked, Comparison, Findings
from selfaware.experiments.first_look import Fitted
from selfaware.experiments.first_look import Settings as FirstLook
from selfaware.interventions.lora import Lora
from selfaware.interventions.steer import Vector
from selfaware.report.page import Claim
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
        rates: learning rates, the same for every method.
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
    lora_sites: tuple[str, ...] = ("15.mlp.down_proj",)
    vector_sites: tuple[str, ...] = ("15",)
    lora: Lora = field(default_factory=lambda: FirstLook().lora)
    wide: Lora = field(default_factory=lambda: FirstLook().wide)
    vector: Vector = field(default_factory=lambda: FirstLook().vector)


def settings(scale: str) -> Settings:
    """The settings of a scale: `full` adds sites, epochs and seeds."""
    if scale == "smoke":
        return Settings(limit=4, epochs=(1,), rates=(0.01,), more_vector_rates=())
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
    for epochs in chosen.epochs:
        tried: list[Lora | Vector] = []
        for site in chosen.lora_sites:
            tried += [_at(replace(chosen.lora, site=site), rate, epochs, chosen.template) for rate in chosen.rates]
        tried += [_at(chosen.wide, rate, epochs, chosen.template) for rate in chosen.rates]
        for site in chosen.vector_sites:
            vector = replace(chosen.vector, site=site)
            rates = (*chosen.rates, *chosen.more_vector_rates)
            tried += [_at(vector, rate, epochs, chosen.template) for rate in rates]
        for recipe in tried:
            label = f"{recipe.label}, {recipe.site}, rate {recipe.training.learning_rate:g}, {epochs} epochs"
            arms.append(
                Arm(
                    label, label, "arm", (recipe,), examples, "Fitted on the train part.", recipe.site, recipe.positions
                )
            )
    asked = Asked(
        "choices", domain.questions("choices", "validation", chosen.form)[:cut], chosen.template, part="validation"
    )
    return Comparison(bench, arms, [asked], chosen.seeds)


def _at(recipe: Fitted, rate: float, epochs: int, template: Template) -> Fitted:
    return replace(recipe, training=replace(recipe.training, learning_rate=rate, epochs=epochs, template=template))


def findings(made: Comparison, domain: loader.Domain, model: str) -> Findings:
    """Every combination's effect on validation choices; no verdict, for nothing is claimed."""
    of = [m for m in measures.known(made, measures.SHARE) if m.set == "choices"]
    found = measures.measured(made, of, model, domain.name)
    caption = "Half the difference between the share of high choices after high and after low training. One seed has no interval."
    drawn = pictures.effects(
        made, found, [("choice_share_effect", "choices", None)], "settings", "Effect on validation choices", caption
    )
    return Findings(found.rows, (), (drawn,))


def caveats(domain: loader.Domain, chosen: Settings) -> tuple[str, ...]:
    """What a reader of the page must keep in mind."""
    return (
        "These numbers chose the settings and say nothing about unseen topics: the test part does that.",
        f"{len(chosen.seeds)} seed(s); small differences between settings are noise.",
    )
