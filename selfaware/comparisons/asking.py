"""Which question sets a domain is asked, core or all. Knows domains and sets, no arm and no claim."""

from dataclasses import replace

from selfaware.comparisons.arms import Asked
from selfaware.domains import codewords, loader
from selfaware.types import Form, Sampling, Template

BASIC = ("choices", "self", "twin", "unrelated", "lotteries-letters", "neutral")
"""What random vectors are asked, of which there are many."""


def sets(
    domain: loader.Domain,
    form: Form,
    template: Template,
    everything: bool,
    sampling: Sampling,
    lotteries: tuple[int, int],
    cut: int | None,
) -> list[Asked]:
    """The question sets that the domain has, the core of them unless `everything`.

    Args:
        lotteries: how many as letters, and how many in the cloze form.
        cut: at most so many questions of a set.
    """
    made = [Asked("choices", domain.questions("choices", "test", form)[:cut], template, part="test")]
    made += [Asked(name, domain.questions(name)[:cut], template) for name in ("self", "twin", "unrelated")]
    if "letters" in domain.lotteries:
        made.append(
            Asked(
                "lotteries-letters", domain.questions("lotteries", form="letters")[: cut or 2 * lotteries[0]], template
            )
        )
    if not everything:
        return made
    if form == "cloze" and "letters" in domain.forms:
        made.append(
            Asked("choices-letters", domain.questions("choices", "test", "letters")[:cut], template, part="test")
        )
    if form in domain.lotteries and form != "letters":
        made.append(Asked("lotteries", domain.questions("lotteries", form=form)[: cut or 2 * lotteries[1]], template))
    if domain.has("other_form"):
        made.append(Asked("other_form", domain.questions("other_form")[:cut], template))
    if "shown" in domain.statements:
        for name in ("self", "twin"):
            made.append(Asked(f"{name}-shown", domain.questions(name, shown=True)[: cut and 2 * cut], template))
    made += [Asked(name, domain.questions(name)[:cut], template) for name in codewords.SETS if domain.has(name)]
    for name in loader.OPEN_SETS:
        if domain.has(name):
            few = replace(sampling, samples=-(-sampling.samples // 2)) if name == "forecast" else sampling
            few = domain.sampling(name, few)
            opens = domain.opens(name, "test")
            some = set(list(dict.fromkeys(q.group for q in opens))[: cut and cut // 2])
            made.append(
                Asked(
                    name,
                    tuple(q for q in opens if q.group in some),
                    template,
                    few,
                    "test" if name == "forecast" else "",
                )
            )
    passages = loader.passages()
    return [*made, Asked("neutral", passages[: cut and cut // 2], template)]
