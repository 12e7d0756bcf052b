"""A domain → a report on its rules: counts, leaks, balance, and what the wording gives away. Knows no model.

The numbers stand in `[rules]` of the domain's `domain.toml`. Every rule there is judged here, and a rule that nothing
here judges is itself a problem.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from selfaware.domains import checks_asked, surface
from selfaware.domains.loader import Domain
from selfaware.domains.records import Record
from selfaware.domains.surface import words
from selfaware.errors import BadData
from selfaware.types import PARTS, Form

TOLD = "told, not judged"
COUNTS = ("records", "families", "test_families", "self_items", "unrelated_items", "shared_run_words", "opening_words")
UPPER = ("repeated_openings_share", "length_gap_words", "hedge_tell_share")
RANGES = ("outcomes_share", "better_share", "loss_share")
RULES = (*COUNTS, *UPPER, *RANGES, "prose")
PROSE = ("fail", "warn")
FRAMES = ("", "gain", "loss")

# "As often", as a share; and the fewest records that differ at all for such a share to be judged.
AS_OFTEN = (0.45, 0.55)
FEWEST = 10


@dataclass(frozen=True)
class Line:
    """One thing that was looked at: what was found, and the rule it is held to."""

    name: str
    found: str
    rule: str
    ok: bool


@dataclass(frozen=True)
class Report:
    """All lines, and for each broken one at least one problem of the form `path:line: got; needed. Do.`

    Attributes:
        lines: in the order of the checks.
        problems: where to mend, and how.
        strict: whether a broken rule is an error (`prose = "fail"`) or a note (`prose = "warn"`, imported domains).
    """

    lines: tuple[Line, ...]
    problems: tuple[str, ...]
    strict: bool

    @property
    def ok(self) -> bool:
        """True when every rule holds."""
        return not self.problems and all(line.ok for line in self.lines)


def check(domain: Domain) -> Report:
    """Every rule of a domain, judged, and its surface baselines, told.

    Raises:
        BadData: a rule is missing from `domain.toml` or has the wrong shape.
    """
    _shape(domain)
    sheet = _Sheet(domain)
    for part in (_known, _counts, _items, _twins, _runs, _openings, _barred, _outcomes, _frames, _lengths, _hedges):
        part(sheet)
    _orders(sheet)
    for line in checks_asked.judged(domain):
        sheet.judge(*line)
    _surface(sheet)
    return Report(tuple(sheet.lines), tuple(sheet.problems), domain.rules["prose"] == "fail")


@dataclass
class _Sheet:
    """Lines and problems as they come in."""

    domain: Domain
    lines: list[Line] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def judge(self, name: str, found: str, rule: str, ok: bool, problems: Sequence[str]) -> None:
        """Adds a line, and its problems when it is broken."""
        self.lines.append(Line(name, found, rule, ok))
        self.problems += [] if ok else problems

    def tell(self, name: str, found: str) -> None:
        """Adds a line that no rule judges."""
        self.lines.append(Line(name, found, TOLD, True))

    def count(self, name: str, got: int, rule: str, file: str) -> None:
        """Adds a line for a number that must be reached."""
        least = int(self.domain.rules[rule])
        problem = f"{self.at(file)}: {got} {name}; {rule} asks for at least {least}. Add {least - got}."
        self.judge(name, str(got), f"at least {least}", got >= least, [problem])

    def share(self, name: str, got: int, of: int, rule: str, what: str) -> None:
        """Adds a line for a share that must lie between the two numbers of a rule."""
        low, high = self.domain.rules[rule]
        ok = of == 0 or low <= got / of <= high
        found = f"{got / of:.3f} ({got} of {of})" if of else "no records to judge by"
        problem = f"{self.at('records.jsonl')}: {name} is {found}; {rule} asks for {low} to {high}. {what}"
        self.judge(name, found, f"{low} to {high}", ok, [problem])

    def at(self, file: str, line: int | None = None) -> str:
        """Where a problem stands."""
        path = self.domain.folder / file
        return f"{path}:{line}" if line else str(path)

    def where(self, record: Record) -> str:
        """Where a record stands."""
        return self.at("records.jsonl", record.line)


def _shape(domain: Domain) -> None:
    path = domain.folder / "domain.toml"
    for name in RULES:
        if name not in domain.rules:
            raise BadData(f"{path}: the rule {name!r} is missing; [rules] needs all of {', '.join(RULES)}. Add it.")
        got = domain.rules[name]
        if name == "prose":
            good, needed = got in PROSE, " or ".join(PROSE)
        elif name in RANGES:
            pair = isinstance(got, list) and len(got) == 2 and all(_number(x) for x in got)
            good, needed = pair and 0 <= got[0] <= got[1] <= 1, "two shares from 0 to 1, the smaller first"
        elif name in UPPER:
            good, needed = _number(got) and got >= 0, "a number, zero or larger"
        else:
            least = 1 if name in ("shared_run_words", "opening_words") else 0
            good, needed = type(got) is int and got >= least, f"a whole number, {least} or larger"
        if not good:
            raise BadData(f"{path}: the rule {name} is {got!r}; it must be {needed}. Mend it.")


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _known(sheet: _Sheet) -> None:
    path = sheet.at("domain.toml")
    odd = sorted(set(sheet.domain.rules) - set(RULES))
    problems = [f"{path}: nothing judges the rule {x!r}; a rule must be judged. Rename or remove it." for x in odd]
    sheet.judge("rules", f"{len(sheet.domain.rules)} rules, {len(odd)} unknown", "all known", not odd, problems)


def _counts(sheet: _Sheet) -> None:
    domain = sheet.domain
    sheet.count("records", len(domain.records), "records", "records.jsonl")
    sheet.count("families", len(domain.parts), "families", "records.jsonl")
    families = Counter(domain.parts.values())
    sheet.count("families in the test part", families["test"], "test_families", "records.jsonl")
    by_part = Counter(domain.parts[record.family] for record in domain.records)
    sheet.tell("records by part", ", ".join(f"{part} {by_part[part]}" for part in PARTS))
    sheet.tell("families by part", ", ".join(f"{part} {families[part]}" for part in PARTS))


def _items(sheet: _Sheet) -> None:
    domain = sheet.domain
    by_set = {name: [item for item in domain.items if item.set == name] for name in ("self", "twin", "unrelated")}
    sheet.count("self items", len(by_set["self"]), "self_items", "self.jsonl")
    sheet.count("unrelated items", len(by_set["unrelated"]), "unrelated_items", "self.jsonl")
    families = {name: Counter(item.family for item in by_set[name]) for name in ("self", "twin")}
    problems = []
    for name, other in (("self", "twin"), ("twin", "self")):
        for item in by_set[name]:
            own, met = families[name][item.family], families[other][item.family]
            if own != 1 or met != 1:
                at = sheet.at("self.jsonl", item.line)
                got = f"family {item.family!r} has {own} {name} and {met} {other} items"
                problems.append(f"{at}: {got}; they must pair one to one. Add, remove or rename one.")
    pairs = sum(families["twin"][family] == 1 for family, n in families["self"].items() if n == 1)
    sheet.judge("self and twin pairs", str(pairs), "one to one by family", not problems, problems)
    _mirrors(sheet)


def _mirrors(sheet: _Sheet) -> None:
    highs = defaultdict(list)
    for name in sorted({item.set for item in sheet.domain.items}):
        for question in sheet.domain.questions(name):
            highs[question.group].append(question.high)
    mirrored = sum(sorted(high) == [0, 1] for high in highs.values())
    problems = [
        f"{sheet.at('self.jsonl', item.line)}: item {item.id} has no mirror; each needs one. Write one."
        for item in sheet.domain.items
        if sorted(highs[item.id]) != [0, 1]
    ]
    found = f"{mirrored} of {len(sheet.domain.items)} items"
    sheet.judge("mirrors", found, "every item, by construction", not problems, problems)


def _twins(sheet: _Sheet) -> None:
    problems = []
    twins = [item for item in sheet.domain.items if item.set == "twin"]
    for item in twins:
        text = " ".join((item.user, item.stem, item.mirror_user, item.mirror_stem, item.high, item.low))
        met = checks_asked.personal(text)
        if met:
            at = sheet.at("self.jsonl", item.line)
            listed = ", ".join(sorted(set(met)))
            problems.append(f"{at}: twin {item.id} says {listed}; a twin is impersonal. Name somebody else.")
    found = f"{len(problems)} of {len(twins)} twins"
    sheet.judge("twins that say you or I", found, "none", not problems, problems)


def _texts(record: Record) -> tuple[tuple[str, str], ...]:
    return ("situation", record.situation), ("high", record.high), ("low", record.low)


def _runs(sheet: _Sheet) -> None:
    n = int(sheet.domain.rules["shared_run_words"])
    first: dict[tuple[str, ...], Record] = {}
    shared: dict[tuple[int, int], str] = {}
    for record in sheet.domain.records:
        for name, text in _texts(record):
            said = words(text)
            for i in range(len(said) - n + 1):
                run = said[i : i + n]
                other = first.setdefault(run, record)
                if other is not record and not (record.group and other.group == record.group):
                    got = f"{name} shares “{' '.join(run)}” with {other.id} (line {other.line})"
                    shared.setdefault((other.line, record.line), f"{sheet.where(record)}: {got}")
    problems = [f"{got}; no {n} words in a row may stand in two records. Rewrite one." for got in shared.values()]
    sheet.judge(f"pairs that share {n} words in a row", str(len(shared)), "none", not shared, problems)


def _openings(sheet: _Sheet) -> None:
    n, most = int(sheet.domain.rules["opening_words"]), sheet.domain.rules["repeated_openings_share"]
    first: dict[str, Record] = {}
    for record in sheet.domain.records:
        first.setdefault(record.group or record.id, record)
    records = tuple(first.values())
    by_opening: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    for record in records:
        by_opening[surface.opening(record.situation, n)].append(record)
    repeats = [(said, same) for said, same in by_opening.items() if len(same) > 1]
    share = sum(len(same) for _, same in repeats) / len(records)
    problems = []
    for said, same in repeats:
        got = f"opens with “{' '.join(said)}”, as line {same[0].line} does"
        needed = f"at most {most} of the records may share an opening"
        problems += [f"{sheet.where(record)}: {got}; {needed}. Reword it." for record in same[1:]]
    name = f"situations that share an opening of {n} words"
    sheet.judge(name, f"{share:.3f}", f"at most {most}", share <= most, problems)
    told = []
    for side in ("high", "low"):
        openings = Counter(surface.opening(dict(_texts(record))[side], n) for record in records)
        told.append(f"{side} {sum(met for met in openings.values() if met > 1) / len(records):.3f}")
    sheet.tell(f"options that share an opening of {n} words", ", ".join(told))


def _barred(sheet: _Sheet) -> None:
    listed = frozenset(word.lower() for word in sheet.domain.words.get("risk_words", ()))
    problems = []
    for record in sheet.domain.records:
        for name, text in _texts(record):
            for word in dict.fromkeys(words(text)):
                if word in listed or re.split("['’]", word)[0] in listed:
                    problems.append(f"{sheet.where(record)}: {name} says {word!r}; risk_words are barred. Reword it.")
    sheet.judge("barred words", str(len(problems)), "none in situations and options", not problems, problems)


def _outcomes(sheet: _Sheet) -> None:
    records = [record for record in sheet.domain.records if record.outcomes]
    add = "Add outcomes to some records, or take them from some."
    sheet.share("records with outcomes", len(records), len(sheet.domain.records), "outcomes_share", add)
    better, equal, flat = 0, [], []
    for record in records:
        assert record.outcomes is not None
        (high, low), (wide, narrow) = record.outcomes.expected(), record.outcomes.variance()
        size = max(abs(x) for side in (record.outcomes.high, record.outcomes.low) for _, x in side)
        if abs(high - low) <= 1e-5 * size:
            got = f"both options are worth {high:g} {record.outcomes.unit}"
            equal.append(f"{sheet.where(record)}: {got}; one must be worth more. Change a number.")
        elif high > low:
            better += 1
        if wide <= narrow:
            got = f"variance is {wide:g} for high and {narrow:g} for low"
            flat.append(f"{sheet.where(record)}: {got}; high must vary more. Change a number.")
    swap = "Change numbers until either option is worth more about as often."
    sheet.share("high is worth more", better, len(records), "better_share", swap)
    sheet.judge("options of equal expected value", str(len(equal)), "none", not equal, equal)
    sheet.judge("high varies no more than low", str(len(flat)), "none", not flat, flat)


def _frames(sheet: _Sheet) -> None:
    records = sheet.domain.records
    losses = sum(record.frame == "loss" for record in records)
    sheet.share("loss frames", losses, len(records), "loss_share", "Reword some records as losses, or as gains.")
    odd = [record for record in records if record.frame not in FRAMES]
    needed = "it must be gain, loss or empty. Mend it."
    problems = [f"{sheet.where(record)}: the frame is {record.frame!r}; {needed}" for record in odd]
    sheet.judge("unknown frames", str(len(problems)), "none", not problems, problems)


def _lengths(sheet: _Sheet) -> None:
    most = sheet.domain.rules["length_gap_words"]
    gaps = [len(words(record.high)) - len(words(record.low)) for record in sheet.domain.records]
    mean = sum(gaps) / len(gaps)
    path = sheet.at("records.jsonl")
    side = "high" if mean > 0 else "low"
    got = f"the {side} option is {abs(mean):.3f} words longer on average"
    problem = f"{path}: {got}; length_gap_words allows {most}. Shorten some {side} options."
    sheet.judge("mean length, high minus low", f"{mean:+.3f} words", f"at most {most}", abs(mean) <= most, [problem])
    longer, differ = sum(gap > 0 for gap in gaps), sum(gap != 0 for gap in gaps)
    _balance(sheet, "high is the longer option", (longer, differ), AS_OFTEN, "Shorten options on the side that leads.")


def _hedges(sheet: _Sheet) -> None:
    most = float(sheet.domain.rules["hedge_tell_share"])
    listed = frozenset(sheet.domain.words.get("hedges", ()))
    gaps = [surface.count(r.high, listed) - surface.count(r.low, listed) for r in sheet.domain.records]
    more, differ = sum(gap > 0 for gap in gaps), sum(gap != 0 for gap in gaps)
    span = (round(1 - most, 6), most)
    _balance(sheet, "high has more hedges", (more, differ), span, "Move hedges from the side that leads to the other.")


def _balance(sheet: _Sheet, name: str, met: tuple[int, int], span: tuple[float, float], do: str) -> None:
    got, of = met
    rule = f"{span[0]:g} to {span[1]:g} where they differ, from {FEWEST} records on"
    found = f"{got} of {of}" + (f" = {got / of:.3f}" if of else "")
    ok = of < FEWEST or span[0] <= got / of <= span[1]
    problem = f"{sheet.at('records.jsonl')}: {name} in {found}; {span[0]:g} to {span[1]:g} is needed. {do}"
    sheet.judge(name, found, rule, ok, [problem])


def _orders(sheet: _Sheet) -> None:
    form: Form = "cloze" if "cloze" in sheet.domain.forms else "letters"
    asked = Counter(q.id.rpartition("/")[2] for q in sheet.domain.questions("choices", form=form))
    first, last = asked["high-first"], asked["low-first"]
    got = f"high comes first in {first} questions, last in {last}"
    problem = f"{sheet.at('records.jsonl')}: {got}; both orders must be asked. Ask both."
    found = f"high first in {first}, last in {last} questions"
    rule = "equal, by construction: both orders are asked"
    sheet.judge("order of the options", found, rule, first == last, [problem])


def _surface(sheet: _Sheet) -> None:
    for baseline in surface.baselines(sheet.domain):
        parts = zip(PARTS[1:], (baseline.validation, baseline.test), baseline.records, strict=True)
        told = [f"{part} {'–' if got is None else f'{got:.3f}'} ({n} records)" for part, got, n in parts]
        sheet.tell(f"surface: {baseline.name}", ", ".join(told))
    high, low = surface.bag_of_words(surface.part_of(sheet.domain, "train")).leaning(8)
    sheet.tell("surface: words that lean high", " ".join(high))
    sheet.tell("surface: words that lean low", " ".join(low))
