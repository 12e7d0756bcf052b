"""Rules of what is asked beside the choices: open items, other-form choices, positive controls, lotteries. Knows no model."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from selfaware.domains.loader import Domain
from selfaware.domains.surface import words
from selfaware.types import FORMS

Judged = tuple[str, str, str, bool, Sequence[str]]
"""What was looked at, what was found, the rule, whether it holds, and where to mend it."""

PERSONAL = frozenset({"i", "me", "my", "mine", "myself", "you", "your", "yours", "yourself", "yourselves"})
OTHER_FORMS = 10


def judged(domain: Domain) -> Iterator[Judged]:
    """Every rule that this domain has something for."""
    if domain.has("spoken"):
        yield from _twins(domain)
        yield from _sides(domain)
    if domain.has("other_form"):
        got = sum(item.set == "other_form" for item in domain.items)
        problem = (
            f"{domain.folder / 'other_form.jsonl'}: {got} items; {OTHER_FORMS} are needed. Add {OTHER_FORMS - got}."
        )
        yield "choices of another form", str(got), f"at least {OTHER_FORMS}", got >= OTHER_FORMS, [problem]
    if domain.has("self") and domain.has("described"):
        yield _apart(domain)
    if domain.lotteries:
        yield from _lotteries(domain)


def personal(text: str) -> list[str]:
    """The words of a text that speak to, or of, the one who answers."""
    return [word for word in words(text) if re.split("['’]", word)[0] in PERSONAL]


def _twins(domain: Domain) -> Iterator[Judged]:
    own = {i.family: i for i in domain.spoken if i.set == "spoken"}
    twins = [i for i in domain.spoken if i.set == "spoken-twin"]
    path = domain.folder / "spoken.jsonl"
    alone = [
        f"{path}:{t.line}: twin {t.id} has no item of family {t.family!r}; each twin needs one. Rename or remove it."
        for t in twins
        if t.family not in own
    ]
    yield "open twins with an item", f"{len(twins) - len(alone)} of {len(twins)}", "every twin", not alone, alone
    unlike = [
        f"{path}:{t.line}: twin {t.id} is read otherwise than its item; both must be. Use the same reads, high and low."
        for t in twins
        if t.family in own and (t.reads, t.high, t.low) != (own[t.family].reads, own[t.family].high, own[t.family].low)
    ]
    yield (
        "open twins read as their items",
        f"{len(twins) - len(unlike)} of {len(twins)}",
        "every twin",
        not unlike,
        unlike,
    )
    said = [(t, personal(" ".join((*t.prompts, *t.mirror_prompts, t.stem)))) for t in twins]
    met = [
        f"{path}:{t.line}: twin {t.id} says {', '.join(sorted(set(found)))}; a twin is impersonal. Name somebody else."
        for t, found in said
        if found
    ]
    yield "open twins that say you or I", f"{len(met)} of {len(twins)}", "none", not met, met


def _sides(domain: Domain) -> Iterator[Judged]:
    """Language items must come with the two languages swapped, or a liking for one language would read as an answer."""
    pairs = Counter((i.high, i.low) for i in domain.spoken if i.reads == "language")
    odd = [
        f"{domain.folder / 'spoken.jsonl'}:{i.line}: {i.id} has no item with its languages swapped; one is needed. Add it."
        for i in domain.spoken
        if i.reads == "language" and pairs[i.low, i.high] != pairs[i.high, i.low]
    ]
    yield "language items with their languages swapped", f"{sum(pairs.values()) - len(odd)}", "every one", not odd, odd


def _apart(domain: Domain) -> Judged:
    """What the positive control is trained on must not be what it is asked."""
    asked = {(i.high.casefold(), i.low.casefold()) for i in domain.items if i.set in ("self", "other_form")}
    path = domain.folder / "described.jsonl"
    same = [
        f"{path}:{i.line}: {i.id} has the answers of a question that is asked; training must not. Reword it."
        for i in domain.items
        if i.set == "described" and (i.high.casefold(), i.low.casefold()) in asked
    ]
    number = sum(i.set == "described" for i in domain.items)
    return (
        "self-descriptions to train on, apart from the items",
        f"{number - len(same)} of {number}",
        "all",
        not same,
        same,
    )


def _lotteries(domain: Domain) -> Iterator[Judged]:
    path = domain.folder / "domain.toml"
    missing = [form for form in FORMS if form not in domain.lotteries]
    lacking = [
        f"{path}: [lotteries.{form}] is missing; lotteries are asked in both forms. Write it." for form in missing
    ]
    yield "forms of lotteries", str(len(FORMS) - len(missing)), "both", not missing, lacking
    if not missing:
        got = len({(q.options, q.prompt.user) for q in domain.questions("lotteries", form="letters")}) // 2
        needed = int(domain.lotteries["number"])
        problem = f"{path}: {got} different lotteries of {needed}; they must differ. Widen low and high."
        yield "lotteries", str(got), f"{needed}, all different", got == needed, [problem]
