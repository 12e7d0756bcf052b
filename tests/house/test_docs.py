"""What docstrings and the README say exists: documented parameters are in the signature, commands are commands."""

import ast
import re
from pathlib import Path

import pytest

from selfaware import cli

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "selfaware").rglob("*.py"))
NAMES = re.compile(r"^ {4}([a-z_][\w]*(?:, [a-z_][\w]*)*):", re.M)


def documented(node: ast.FunctionDef | ast.ClassDef, heading: str) -> list[str]:
    text = ast.get_docstring(node) or ""
    found = re.search(rf"^{heading}:\n((?: +.*\n?|\n)+)", text, re.M)
    return [name for line in NAMES.findall(found[1]) for name in line.split(", ")] if found else []


def arguments(node: ast.FunctionDef) -> set[str]:
    all_of = node.args
    rest = [a.arg for a in (all_of.vararg, all_of.kwarg) if a]
    return {a.arg for a in (*all_of.posonlyargs, *all_of.args, *all_of.kwonlyargs)} | set(rest)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_documented_names_exist(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef):
            assert set(documented(node, "Args")) <= arguments(node), f"{path.name}:{node.lineno} {node.name}"
        if isinstance(node, ast.ClassDef):
            fields = {n.target.id for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
            init = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
            known = fields.union(*(arguments(n) for n in init))
            assert set(documented(node, "Attributes")) | set(documented(node, "Args")) <= known, (
                f"{path.name}: {node.name}"
            )


def test_the_check_finds_a_parameter_that_is_gone() -> None:
    source = 'def f(a):\n    """Gives it.\n\n    Args:\n        b: gone.\n    """\n'
    node = ast.parse(source).body[0]
    assert isinstance(node, ast.FunctionDef)
    assert set(documented(node, "Args")) - arguments(node) == {"b"}


@pytest.mark.parametrize("name", ["README.md", "docs/ADDING.md"])
def test_commands_in_the_documents_exist(name: str) -> None:
    known = {c.name or c.callback.__name__ for c in cli.app.registered_commands if c.callback}
    known |= {g.name for g in cli.app.registered_groups if g.name}
    said = set(
        re.findall(
            r"selfaware (list|show|check|fit|ask|score|run|report|[a-z]+)(?= |$|`)",
            (ROOT / name).read_text("utf-8"),
            re.M,
        )
    )
    assert said & known
    assert {c for c in said if re.search(rf"(^|`)selfaware {c}\b", (ROOT / name).read_text("utf-8"), re.M)} <= known
