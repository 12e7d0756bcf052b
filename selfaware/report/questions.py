"""A page's questions put together as they are shown: by set, then by group. Knows items, must not know any HTML.

The counts are those of replies that could not be read: unknown is not zero, and is said aloud at every level.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from selfaware.report import strip
from selfaware.report.page import Item, Reply
from selfaware.report.summary import finite

_GIST = 160
_TOKEN = re.compile(r"<[^<>\s]{1,40}>")


@dataclass(frozen=True)
class Group:
    """Questions that share a figure.

    Attributes:
        name: the item's id, or the group's.
        flags: what the items are flagged as, each once.
        gist: the options, or the prompt's longest line where there are none.
        items: each with its own short name, empty where it stands alone.
        figure: the strip figure as SVG; empty where the replies don't say whose they are.
        abreast: whether the questions fit beside each other: sampled texts are too wide for that.
        unknown: replies that could not be read.
    """

    name: str
    family: str
    flags: tuple[str, ...]
    gist: str
    items: tuple[tuple[str, Item], ...]
    figure: str
    abreast: bool
    replies: int
    unknown: int


@dataclass(frozen=True)
class Set:
    """The groups of one question set, with counts of its questions, replies and unread replies, and of each flag."""

    name: str
    groups: tuple[Group, ...]
    questions: int
    replies: int
    unknown: int
    flags: tuple[tuple[str, int], ...]


def sets(items: Iterable[Item]) -> tuple[Set, ...]:
    """Items by set and group, both in the order in which they first come.

    A group's questions have one set, unit and zero; the same name elsewhere is another group.
    """
    found: dict[str, dict[tuple[object, ...], list[Item]]] = {}
    for number, item in enumerate(items):
        key = (item.group, item.unit, item.zero) if item.group else (number,)
        found.setdefault(item.set, {}).setdefault(key, []).append(item)
    made = []
    for name, by_key in found.items():
        groups = tuple(_group(tuple(own)) for own in by_key.values())
        flags = Counter(flag for group in groups for flag in group.flags)
        made.append(
            Set(
                name,
                groups,
                sum(len(group.items) for group in groups),
                sum(group.replies for group in groups),
                sum(group.unknown for group in groups),
                tuple(flags.items()),
            )
        )
    return tuple(made)


def unread(reply: Reply) -> bool:
    """Whether the reply has no value that can be shown."""
    return finite(reply.value) is None


def counted(texts: Iterable[str]) -> tuple[tuple[str, int], ...]:
    """Sampled texts with how often each came, the most frequent first, then in the order of the draws."""
    return tuple(Counter(texts).most_common())


def _group(items: tuple[Item, ...]) -> Group:
    first = items[0]
    # Of a prompt without options the longest line says most; special tokens say nothing.
    gist = " / ".join(first.options) or max(_TOKEN.sub("", first.text).splitlines(), key=len, default="").strip()
    return Group(
        name=first.id if len(items) == 1 else first.group,
        family=first.family,
        flags=tuple(dict.fromkeys(item.flag for item in items if item.flag)),
        gist=gist if len(gist) <= _GIST else gist[: _GIST - 1] + "…",
        items=tuple(zip(strip.short_names([item.id for item in items]), items, strict=True)),
        figure=strip.draw(items),
        abreast=not any(reply.said for item in items for reply in item.replies),
        replies=sum(len(item.replies) for item in items),
        unknown=sum(unread(reply) for item in items for reply in item.replies),
    )
