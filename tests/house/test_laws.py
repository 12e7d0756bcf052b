"""The laws of the house, read off the source: who may import whom, and what may be said where.

Nothing is imported from the package here: a module that cannot be imported is judged like the others.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "selfaware"

# Rooms by floor. A room may import from the floors above its own, and from itself.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("types",),
    ("spec", "stats"),
    ("models", "domains", "metrics"),
    ("ask", "games", "store"),
    ("interventions", "report"),
    ("readouts",),
    ("stages",),
    ("launch",),
    ("comparisons",),
    ("findings",),
    ("experiments", "terminal", "bench"),
    ("cli",),
    ("__main__",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

# (module, imported module) that may be imported inside a function. Empty, and meant to stay so.
INSIDE_FUNCTIONS: frozenset[tuple[str, str]] = frozenset()

LONGEST = 350

# What may be drawn through: everything else in these modules is the global generator.
OWN_GENERATORS = {
    "random": {"Random", "SystemRandom"},
    "numpy.random": {"default_rng", "Generator", "BitGenerator", "SeedSequence", "PCG64", "Philox"},
}
TORCH_STATE = {
    "manual_seed",
    "seed",
    "set_rng_state",
    "initial_seed",
    "random.manual_seed",
    "cuda.manual_seed",
    "cuda.manual_seed_all",
}
TORCH_DRAWS = {"rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial", "poisson"}
TENSOR_DRAWS = {
    "normal_",
    "uniform_",
    "bernoulli_",
    "random_",
    "exponential_",
    "log_normal_",
    "cauchy_",
    "geometric_",
    "multinomial",
}

# Split, or this file would break its own law.
UNWANTED = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", r"\b[Ii]ssue " + r"#?\d", r"\b[Ii]ssue" + " #")))


@dataclass(frozen=True)
class Import:
    """One name brought in by an import statement.

    Attributes:
        target: the module, dotted; `from a import b` means `a.b` where that is a module.
        inside: whether the statement stands in a function.
    """

    target: str
    line: int
    inside: bool


@dataclass(frozen=True)
class Module:
    """A source file of the package."""

    path: Path

    @cached_property
    def name(self) -> str:
        parts = self.path.relative_to(ROOT).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @cached_property
    def room(self) -> str:
        return room_of(self.name)

    @cached_property
    def text(self) -> str:
        return self.path.read_text("utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def imports(self) -> tuple[Import, ...]:
        return tuple(self._imports(self.tree, False))

    def _imports(self, node: ast.AST, inside: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Import(a.name, child.lineno, inside) for a in child.names)
            elif isinstance(child, ast.ImportFrom):
                package = self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]
                up = package.split(".")[: len(package.split(".")) - child.level + 1] if child.level else []
                base = ".".join([*up, *([child.module] if child.module else [])])
                for a in child.names:
                    yield Import(f"{base}.{a.name}" if is_module(f"{base}.{a.name}") else base, child.lineno, inside)
            yield from self._imports(
                child, inside or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            )

    @cached_property
    def aliases(self) -> dict[str, str]:
        """Local name → what it stands for, dotted, for every import of the file."""
        found: dict[str, str] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found |= {
                    a.asname or a.name.split(".")[0]: a.name if a.asname else a.name.split(".")[0] for a in node.names
                }
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
        return found

    def dotted(self, node: ast.AST) -> str:
        """`np.random.rand` as `numpy.random.rand`; empty for what is not a name of an import or a builtin."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return ""
        return ".".join([self.aliases.get(node.id, node.id), *reversed(parts)])

    @cached_property
    def calls(self) -> tuple[tuple[ast.Call, str], ...]:
        return tuple((n, self.dotted(n.func)) for n in ast.walk(self.tree) if isinstance(n, ast.Call))

    def at(self, node: ast.expr | int) -> str:
        return f"{self.path.relative_to(ROOT)}:{node if isinstance(node, int) else node.lineno}"


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return starts(name, PACKAGE) and (path.with_suffix(".py").is_file() or (path / "__init__.py").is_file())


def room_of(module: str) -> str:
    """The room a module stands in; empty for the package itself, which everybody may import."""
    return module.partition(".")[2].partition(".")[0]


def starts(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


MODULES = tuple(Module(path) for path in sorted((ROOT / PACKAGE).rglob("*.py")))
BY_NAME = {m.name: m for m in MODULES}
every = pytest.mark.parametrize("module", MODULES, ids=lambda m: m.name)


# imports --------------------------------------------------------------------------------------------------------------


def test_there_is_something_to_judge() -> None:
    assert {"selfaware.spec", "selfaware.models", "selfaware.models.hooks", "selfaware.cli"} <= set(BY_NAME)
    assert sum(len(m.imports) for m in MODULES) > 100
    assert "selfaware.spec" in {i.target for i in BY_NAME["selfaware.store"].imports}


@every
def test_every_module_stands_in_a_known_room(module: Module) -> None:
    assert module.room == "" or module.room in FLOOR


@every
def test_imports_point_down(module: Module) -> None:
    here = FLOOR.get(module.room, -1)
    wrong = [
        f"{module.at(i.line)} imports {i.target}"
        for i in module.imports
        if starts(i.target, PACKAGE)
        and (room := room_of(i.target)) not in ("", module.room)
        and FLOOR.get(room, len(FLOORS)) >= here
    ]
    assert not wrong


def test_there_is_no_import_cycle() -> None:
    graph = {m.name: {i.target for i in m.imports if i.target in BY_NAME} - {m.name} for m in MODULES}
    while ends := [name for name, targets in graph.items() if not targets & graph.keys()]:
        for name in ends:
            del graph[name]
    assert not graph, f"these import each other: {sorted(graph)}"


@every
def test_no_import_inside_a_function(module: Module) -> None:
    wrong = [
        f"{module.at(i.line)} {i.target}"
        for i in module.imports
        if i.inside and (module.name, i.target) not in INSIDE_FUNCTIONS
    ]
    assert not wrong


def test_the_list_of_imports_inside_functions_is_not_stale() -> None:
    assert {(m.name, i.target) for m in MODULES for i in m.imports if i.inside} >= INSIDE_FUNCTIONS


@every
def test_transformers_stays_in_models_and_peft_outside(module: Module) -> None:
    wrong = [
        f"{module.at(i.line)} {i.target}"
        for i in module.imports
        if starts(i.target, "peft") or (starts(i.target, "transformers") and module.room != "models")
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("room", "barred"),
    [
        ("report", ("torch", "transformers", "safetensors")),
        ("domains", ("torch", "transformers", "safetensors")),
        ("metrics", ("torch", "transformers", "safetensors")),
        ("spec", ("torch", "numpy")),
        ("stats", ("torch",)),
        ("launch", ("torch", "numpy")),
    ],
)
def test_a_room_is_light_also_through_others(room: str, barred: tuple[str, ...]) -> None:
    """A room that needs no model can be used without loading what runs one."""
    wrong, seen = [], set()
    left = [m for m in MODULES if m.room == room]
    while left:
        module = left.pop()
        seen.add(module.name)
        wrong += [f"{module.at(i.line)} {i.target}" for i in module.imports if any(starts(i.target, b) for b in barred)]
        left += [BY_NAME[i.target] for i in module.imports if i.target in BY_NAME and i.target not in seen]
    assert not wrong


# what may be said where -----------------------------------------------------------------------------------------------


@every
def test_hooks_are_registered_in_one_file(module: Module) -> None:
    wrong = [
        module.at(n)
        for n in ast.walk(module.tree)
        if isinstance(n, ast.Attribute) and re.fullmatch(r"register_(full_)?(forward|backward|module)\w*hook", n.attr)
    ]
    assert not wrong or module.name == "selfaware.models.hooks"


@every
def test_only_the_command_line_prints_and_reads_the_environment(module: Module) -> None:
    """`terminal` is the part of it that draws: it may hold a console, but sees neither argv nor the environment."""
    if module.room == "cli":
        return
    assert module.room == "terminal" or not [module.at(i.line) for i in module.imports if starts(i.target, "rich")]
    said = {"print", "input", "sys.stdout.write", "sys.stderr.write", "os.getenv", "os.putenv"}
    wrong = [f"{module.at(n)} {name}" for n, name in module.calls if name in said]
    names = [(n, module.dotted(n)) for n in ast.walk(module.tree) if isinstance(n, ast.Attribute | ast.Name)]
    wrong += [f"{module.at(n)} {name}" for n, name in names if name in ("os.environ", "sys.argv")]
    assert not wrong


@every
def test_no_global_random_generator(module: Module) -> None:
    assert not list(global_draws(module))


def global_draws(module: Module) -> Iterator[str]:
    for call, name in module.calls:
        head, _, last = name.rpartition(".")
        given = {k.arg for k in call.keywords}
        if head in OWN_GENERATORS and last not in OWN_GENERATORS[head]:
            yield f"{module.at(call)} {name}"
        elif last in ("default_rng", "Random") and head in OWN_GENERATORS and not (call.args or call.keywords):
            yield f"{module.at(call)} {name} without a seed"
        elif name in {f"torch.{state}" for state in TORCH_STATE}:
            yield f"{module.at(call)} {name}"
        elif name in {f"torch.{draw}" for draw in TORCH_DRAWS} and "generator" not in given:
            yield f"{module.at(call)} {name} without a generator"
        elif (
            isinstance(call.func, ast.Attribute)
            and head != "torch"
            and call.func.attr in TENSOR_DRAWS
            and "generator" not in given
        ):
            yield f"{module.at(call)} .{call.func.attr} without a generator"


@pytest.mark.parametrize(
    ("line", "caught"),
    [
        ("import torch; torch.manual_seed(0)", True),
        ("import torch as t; t.manual_seed(0)", True),
        ("import torch; torch.Generator().manual_seed(0)", False),
        ("import torch; torch.randn(3)", True),
        ("import torch; torch.randn(3, generator=g)", False),
        ("import torch; torch.zeros(3).normal_()", True),
        ("import torch; torch.zeros(3).normal_(generator=g)", False),
        ("import random; random.seed(1)", True),
        ("import random; random.shuffle(x)", True),
        ("from random import shuffle; shuffle(x)", True),
        ("import random; random.Random(1).shuffle(x)", False),
        ("import random; random.Random()", True),
        ("import numpy as np; np.random.rand(3)", True),
        ("from numpy import random; random.seed(3)", True),
        ("import numpy as np; np.random.default_rng(0).normal(size=3)", False),
        ("import numpy as np; np.random.default_rng()", True),
    ],
)
def test_the_judge_of_draws_knows_them(
    line: str, caught: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "sample.py").write_text(line)
    assert bool(list(global_draws(Module(tmp_path / "sample.py")))) is caught


@every
def test_nothing_asks_what_an_object_happens_to_have(module: Module) -> None:
    assert not [module.at(n) for n, name in module.calls if name == "hasattr"]


# how a module reads ---------------------------------------------------------------------------------------------------


@every
def test_every_module_says_what_it_is(module: Module) -> None:
    said = (ast.get_docstring(module.tree) or "").split("\n")[0]
    assert said.endswith((".", "?", ":")), f"{module.at(1)}: the docstring's first line must be a sentence"


@pytest.mark.parametrize(
    "module", [m for m in MODULES if m.path.name == "__init__.py" and m.room], ids=lambda m: m.name
)
def test_every_room_says_what_it_knows_and_must_not_know(module: Module) -> None:
    said = (ast.get_docstring(module.tree) or "").split("\n\n")[0]
    assert re.match(r"KNOWS \w", said), module.at(1)
    assert re.search(r"Must not know \w", said), module.at(1)


@every
def test_no_module_is_long(module: Module) -> None:
    lines = module.text.count("\n")
    assert lines <= LONGEST, f"{module.path.relative_to(ROOT)} has {lines} lines"


def test_nothing_is_left_for_later() -> None:
    wrong = []
    for folder, kinds in ((ROOT / PACKAGE, ("*.py", "*.toml", "*.html", "*.css", "*.js")), (ROOT / "tests", ("*.py",))):
        for path in (p for kind in kinds for p in sorted(folder.rglob(kind))):
            for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
                if UNWANTED.search(line):
                    wrong.append(f"{path.relative_to(ROOT)}:{number} {line.strip()[:80]}")
    assert not wrong
