"""Frozen data to canonical JSON and back, its hash, and `--set a.b=c`. The only place that serialises.

Of the nouns it knows `Site` alone, which is written as its text.
"""

import dataclasses
import hashlib
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from selfaware.errors import BadData, SelfawareError, unknown
from selfaware.types import Site

SCHEMA = 1
"""Version of everything that is hashed. Raising it makes every stored cell stale."""

_SCALARS = {bool: "true or false", int: "a whole number", float: "a finite number", str: "text"}


def plain(value: Any) -> Any:
    """`value` as JSON data. A dataclass becomes a dict that starts with its class name under `is`.

    Values that are equal give the same data: a whole number in a field of type float becomes a float, −0.0 becomes 0.0.

    Raises:
        BadData: a value JSON cannot hold (NaN and infinity included), with its type.
    """
    if isinstance(value, Site):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: plain(_floated(f.type, getattr(value, f.name))) for f in dataclasses.fields(value)}
        return {"is": type(value).__name__, **fields}
    if isinstance(value, Mapping):
        made = {str(k): plain(v) for k, v in value.items()}
        if len(made) < len(value):
            raise BadData(f"mapping with keys {list(value)}: two are the same as text; they must differ. Rename one.")
        return made
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            raise BadData(f"value {value}: not a finite number; JSON needs one. Store None with a reason instead.")
        return value if value else 0.0
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise BadData(
                f"text {value!r}: half a character ({error.reason}); whole ones are needed. Mend it."
            ) from error
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, Path):
        return str(value)
    raise BadData(
        f"value of type {type(value).__name__}: JSON cannot hold it; plain data is needed. "
        "Store numbers, text, lists or dataclasses."
    )


def _floated(hint: Any, value: Any) -> Any:
    """`value` with whole numbers made floats where `hint` says float: 64 == 64.0, so they must hash alike."""
    args = typing.get_args(hint)
    if isinstance(value, tuple):
        if typing.get_origin(hint) is tuple:
            each = args[:1] * len(value) if args[1:] == (...,) else args
            return tuple(_floated(h, v) for h, v in zip(each, value, strict=True)) if len(each) == len(value) else value
        return next((_floated(a, value) for a in args if typing.get_origin(a) is tuple), value)
    if type(value) is int and (hint is float or (_is_union(hint) and float in args and int not in args)):
        return float(value)
    return value


def canonical(value: Any) -> str:
    """The one JSON text of `value`: sorted keys, no spaces, UTF-8."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """The first 16 hex digits of SHA-256 over the schema version and the canonical JSON of `value`."""
    return hashlib.sha256(f"{SCHEMA}\n{canonical(value)}".encode()).hexdigest()[:16]


def build(cls: type, data: Mapping[str, Any]) -> Any:
    """An instance of dataclass `cls` from what `plain` made of one; nested dataclasses, tuples and unions included.

    In a union the first member that fits is taken. A field whose type is a protocol keeps its data as it is.

    Raises:
        BadData: a missing or unknown field, a value of another type, or the data of another class.
    """
    _need(isinstance(data, Mapping), cls.__name__, data, "fields with their values")
    hints = typing.get_type_hints(cls)
    names = {f.name for f in dataclasses.fields(cls)}
    said = data.get("is", cls.__name__)
    if said != cls.__name__:
        raise BadData(
            f"{cls.__name__}: got the data of a {said}; one of {cls.__name__} is needed. Give the right file."
        )
    extra = set(data) - names - {"is"}
    if extra:
        has = sorted(names)
        raise BadData(f"{cls.__name__}: got unknown fields {sorted(extra)}; it has {has}. Remove or rename them.")
    given = {k: _typed(hints[k], v, f"{cls.__name__}.{k}") for k, v in data.items() if k != "is"}
    try:
        return cls(**given)
    except TypeError as error:
        raise BadData(f"{cls.__name__}: {error}; it needs {sorted(names)}. Write the missing fields.") from error


def _typed(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint in _SCALARS:
        return _scalar(hint, value, where)
    if _is_union(hint):
        return _member(args, value, where)
    if origin is typing.Literal:
        found = [a for a in args if a == value and type(a) is type(value)]
        _need(bool(found), where, value, f"one of {', '.join(map(str, args))}")
        return found[0]
    if hint is Site or hint is Path:
        _need(isinstance(value, str), where, value, f"the text of a {hint.__name__.lower()}")
        return Site.parse(value) if hint is Site else Path(value)
    if hint is tuple or origin is tuple:
        _need(isinstance(value, (list, tuple)), where, value, "a list")
        return _tuple(args, value, where)
    if origin in (list, Sequence):
        _need(isinstance(value, (list, tuple)), where, value, "a list")
        made = [_typed(args[0], v, where) for v in value]
        return made if origin is list else tuple(made)
    if origin in (dict, Mapping):
        _need(isinstance(value, Mapping), where, value, "keys with their values")
        return {_key(args[0], k): _typed(args[1], v, f"{where}[{k!r}]") for k, v in value.items()}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        _need(isinstance(value, Mapping), where, value, f"the fields of a {hint.__name__}")
        return build(hint, value)
    if hint is type(None):
        _need(value is None, where, value, "nothing")
    return value


def _scalar(hint: type, value: Any, where: str) -> Any:
    is_bool = isinstance(value, bool)
    number = not is_bool and isinstance(value, (int, float)) and math.isfinite(value)
    fits = {bool: is_bool, int: number and isinstance(value, int), float: number, str: isinstance(value, str)}
    _need(fits[hint], where, value, _SCALARS[hint])
    return float(value) if hint is float else value


def _member(args: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in args:
        return None
    named = [a for a in args if isinstance(value, Mapping) and getattr(a, "__name__", "") == value.get("is")]
    left = named or [a for a in args if a is not type(None)]
    for arg in left[:-1]:
        try:
            return _typed(arg, value, where)
        except SelfawareError:
            continue
    return _typed(left[-1], value, where)


def _tuple(args: tuple[Any, ...], value: Sequence[Any], where: str) -> tuple[Any, ...]:
    if not args or args[1:] == (...,):
        return tuple(_typed(args[0] if args else Any, v, where) for v in value)
    _need(len(args) == len(value), where, value, f"a list of {len(args)}")
    return tuple(_typed(a, v, where) for a, v in zip(args, value, strict=True))


def _key(hint: Any, text: Any) -> Any:
    return Site.parse(text) if hint is Site else int(text) if hint is int else text


def _need(fits: bool, where: str, got: Any, what: str) -> None:
    if not fits:
        raise BadData(f"{where}: got {got!r}; {what} is needed. Write such a value.")


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def override(value: Any, settings: Mapping[str, str]) -> Any:
    """A copy of dataclass `value` with dotted fields replaced: `{"training.learning_rate": "0.003"}`.

    The text is read as the field's own type (numbers, true/false, none, comma-separated tuples, sites, else text).

    Raises:
        UnknownName: no such field, with the nearest one; no such choice; not a site.
        BadData: the text is not of the field's type.
    """
    for path, text in settings.items():
        value = _replace(value, path.split("."), text, path)
    return value


def _replace(value: Any, path: list[str], text: str, whole: str) -> Any:
    names = [f.name for f in dataclasses.fields(value)]
    before = whole.split(".")[: -len(path)]
    if path[0] not in names:
        raise unknown("setting", whole, [".".join([*before, name]) for name in names])
    old = getattr(value, path[0])
    here = ".".join([*before, path[0]])
    if len(path) > 1:
        if not _has_parts(old):
            raise unknown("setting", whole, [here], f"{here} has no parts.")
        return dataclasses.replace(value, **{path[0]: _replace(old, path[1:], text, whole)})
    if _has_parts(old):
        parts = [f"{here}.{f.name}" for f in dataclasses.fields(old)]
        raise BadData(f"--set {whole}={text}: {whole} is a group; one of its parts is needed. Set {', '.join(parts)}.")
    hint = typing.get_type_hints(type(value))[path[0]]
    return dataclasses.replace(value, **{path[0]: _read(hint, text.strip(), whole, f"--set {whole}={text}")})


def _has_parts(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, Site)


def _read(hint: Any, text: str, whole: str, command: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if _is_union(hint):
        if text.lower() == "none" and type(None) in args:
            return None
        members = [a for a in args if a is not type(None)]
        for member in members[:-1]:
            try:
                return _read(member, text, whole, command)
            except SelfawareError:
                continue
        return _read(members[-1], text, whole, command)
    if origin is typing.Literal:
        found = [a for a in args if str(a) == text]
        if not found:
            raise unknown(f"value of {whole}", text, [str(a) for a in args])
        return found[0]
    if origin is tuple:
        parts = [part.strip() for part in text.split(",") if part.strip()]
        each = args[:1] * len(parts) if args[1:] == (...,) else args
        if len(each) != len(parts):
            raise BadData(f"{command}: {len(parts)} values; {whole} needs {len(each)}. Give that many.")
        return tuple(_read(h, part, whole, command) for h, part in zip(each, parts, strict=True))
    if hint is Site or hint is Path:
        return Site.parse(text) if hint is Site else Path(text)
    if hint in (bool, int, float):
        return _number(hint, text, whole, command)
    if hint is str or hint is Any:
        return text
    raise BadData(f"{command}: {whole} cannot be read from text; a number or a word can. Set it in Python.")


def _number(hint: type, text: str, whole: str, command: str) -> bool | int | float:
    try:
        if hint is bool:
            return {"true": True, "false": False}[text.lower()]
        number = int(text) if hint is int else float(text)
        if isinstance(number, float) and not math.isfinite(number):
            raise ValueError
    except (ValueError, KeyError) as error:
        raise BadData(f"{command}: not {_SCALARS[hint]}; {whole} needs one. Write such a value.") from error
    return number
