"""Frozen data to canonical JSON and back, its hash, and `--set a.b=c`. The only place that serialises. Knows no nouns."""

import dataclasses
import hashlib
import json
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from selfaware.errors import BadData, unknown
from selfaware.types import Site

SCHEMA = 1
"""Version of everything that is hashed. Raising it makes every stored cell stale."""


def plain(value: Any) -> Any:
    """`value` as JSON data. A dataclass becomes a dict that starts with its class name under `is`.

    Raises:
        BadData: a value JSON cannot hold (NaN and infinity included), with its type.
    """
    if isinstance(value, Site):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"is": type(value).__name__, **fields}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise BadData(f"value {value}: not a finite number; JSON needs one. Store None with a reason instead.")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Path):
        return str(value)
    raise BadData(f"value of type {type(value).__name__}: JSON cannot hold it. Store numbers, text, lists or dataclasses.")


def canonical(value: Any) -> str:
    """The one JSON text of `value`: sorted keys, no spaces, UTF-8."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """The first 16 hex digits of SHA-256 over the schema version and the canonical JSON of `value`."""
    return hashlib.sha256(f"{SCHEMA}\n{canonical(value)}".encode()).hexdigest()[:16]


def build(cls: type, data: Mapping[str, Any]) -> Any:
    """An instance of dataclass `cls` from what `plain` made of one; nested dataclasses, tuples and unions included.

    Raises:
        BadData: a missing or unknown field.
    """
    hints = typing.get_type_hints(cls)
    names = {f.name for f in dataclasses.fields(cls)}
    extra = set(data) - names - {"is"}
    if extra:
        raise BadData(f"{cls.__name__}: got unknown fields {sorted(extra)}; it has {sorted(names)}. Remove or rename them.")
    try:
        return cls(**{k: _typed(hints[k], v) for k, v in data.items() if k != "is"})
    except TypeError as error:
        raise BadData(f"{cls.__name__}: {error}; it needs {sorted(names)}. Write the missing fields.") from error


def _typed(hint: Any, value: Any) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Site:
        return Site.parse(value)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        classes = [a for a in args if dataclasses.is_dataclass(a)]
        if isinstance(value, Mapping) and "is" in value:
            classes = [a for a in classes if isinstance(a, type) and a.__name__ == value["is"]] or classes
        return _typed(classes[0], value) if classes and isinstance(value, Mapping) else _typed_tuple(args, value)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, Mapping):
        return build(hint, value)
    if origin is tuple and isinstance(value, list):
        inner = args[0] if args and (len(args) == 1 or args[1] is ...) else None
        return tuple(_typed(inner if inner else args[i], v) for i, v in enumerate(value))
    return value


def _typed_tuple(args: tuple[Any, ...], value: Any) -> Any:
    tuples = [a for a in args if typing.get_origin(a) is tuple]
    return _typed(tuples[0], value) if tuples and isinstance(value, list) else value


def override(value: Any, settings: Mapping[str, str]) -> Any:
    """A copy of dataclass `value` with dotted fields replaced: `{"training.learning_rate": "0.003"}`.

    The text is read as the field's own type (numbers, true/false, none, comma-separated tuples, else text).

    Raises:
        UnknownName: no such field, with the nearest one.
        BadData: the text is not of the field's type.
    """
    for path, text in settings.items():
        value = _replace(value, path.split("."), text, path)
    return value


def _replace(value: Any, path: list[str], text: str, whole: str) -> Any:
    names = [f.name for f in dataclasses.fields(value)]
    if path[0] not in names:
        raise unknown("setting", whole, names)
    old = getattr(value, path[0])
    if len(path) > 1:
        if not dataclasses.is_dataclass(old):
            raise unknown("setting", whole, names, f"{path[0]} has no parts.")
        return dataclasses.replace(value, **{path[0]: _replace(old, path[1:], text, whole)})
    hint = typing.get_type_hints(type(value))[path[0]]
    return dataclasses.replace(value, **{path[0]: _read(hint, text, whole)})


def _read(hint: Any, text: str, whole: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if text.lower() == "none" and type(None) in args:
            return None
        return _read(next(a for a in args if a is not type(None)), text, whole)
    if origin is typing.Literal:
        if text not in args:
            raise unknown(f"value of {whole}", text, [str(a) for a in args])
        return text
    if origin is tuple:
        return tuple(_read(args[0], part.strip(), whole) for part in text.split(",") if part.strip())
    try:
        if hint is bool:
            return {"true": True, "false": False}[text.lower()]
        if hint in (int, float):
            number = hint(text)
            if not math.isfinite(number):
                raise ValueError("not finite")
            return number
    except (ValueError, KeyError) as error:
        raise BadData(f"--set {whole}={text}: not a {hint.__name__}; {whole} needs one. Write such a value.") from error
    if hint is Site:
        return Site.parse(text)
    return text
