"""The models that have a name here. Reads `catalog.toml`; must not know how a model is fetched or loaded."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from selfaware.errors import BadData

Kind = Literal["wheel", "hub", "folder"]


@dataclass(frozen=True)
class Entry:
    """One table of `catalog.toml`, whose head says what the fields mean."""

    name: str
    kind: Kind
    licence: str
    dtype: str
    note: str = ""
    terms: str = ""
    default: bool = False
    aliases: tuple[str, ...] = ()
    system_role: bool | None = None
    id: str = ""
    revision: str = "main"
    parts: tuple[tuple[str, str], ...] = ()
    bytes: int = 0
    sha256: str = ""
    parameters: float = 0.0


def catalogue() -> dict[str, Entry]:
    """The models of `catalog.toml` by name.

    Raises:
        BadData: a table lacks a field or has one too many.
    """
    return dict(_tables())


def default() -> str:
    """The name of the model that is used when none is named."""
    return next(name for name, entry in catalogue().items() if entry.default)


@cache
def _tables() -> Mapping[str, Entry]:
    text = Path(__file__).with_name("catalog.toml").read_text("utf-8")
    return {name: _entry(name, table) for name, table in tomllib.loads(text).items()}


def _entry(name: str, table: Mapping[str, Any]) -> Entry:
    try:
        parts = tuple((part["wheel"], part["member"]) for part in table.get("parts", ()))
        return Entry(name, **{**table, "aliases": tuple(table.get("aliases", ())), "parts": parts})
    except (TypeError, KeyError) as error:
        raise BadData(
            f"catalog.toml, [{name}]: {error}; needs the fields that its head lists. Mend the table."
        ) from error
