"""Every error that `selfaware` raises on purpose. Knows no other room.

    SelfawareError            exit code 2, one line, no traceback
    ├── UnknownName           a model, domain, site, experiment or option that does not exist
    ├── BadData               a file, row or question set that breaks its schema
    ├── BadModel              a model that cannot do what is asked (no template, context too short, no such site)
    ├── BadFile               a cache, adapter or vector whose content is not what its checksum or header says
    ├── NoNetwork             something must be fetched and cannot be
    ├── CapReached            what may be spent on a paid server is spent
    └── FitFailed             a fit that diverged; the cell fails, the others go on

A message has three parts in one line: what was got, what is needed, what to do.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class SelfawareError(Exception):
    """An error whose message is written for the person at the keyboard."""


class UnknownName(SelfawareError):
    """A name that nothing answers to."""


class BadData(SelfawareError):
    """A data file, row or question set that breaks its schema."""


class BadModel(SelfawareError):
    """A model that cannot do what is asked of it."""


class BadFile(SelfawareError):
    """A cache file, adapter or vector that is not what it should be."""


class NoNetwork(SelfawareError):
    """Something must be fetched and cannot be."""


class CapReached(SelfawareError):
    """What may be spent on a paid server is spent."""


class FitFailed(SelfawareError):
    """A fit that diverged."""


def unknown(kind: str, got: str, known: Iterable[str], more: str = "") -> UnknownName:
    """An `UnknownName` in the form got - needed - do, with the nearest known name."""
    names = sorted(set(known))
    near = get_close_matches(got, names, n=1, cutoff=0.5)
    shown = ", ".join(names[:12]) + (f", … ({len(names)} in all)" if len(names) > 12 else "")
    do = f"Did you mean {near[0]!r}?" if near else "Use one of these."
    return UnknownName(
        f"{kind} {got!r}: there is none of that name; there are {shown or 'none'}. {do}{' ' + more if more else ''}"
    )
