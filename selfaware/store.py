"""The folder of a record: where a cell lies, atomic writes, checksums, locks. The only path knowledge; knows no science.

    runs/cells/<cell id>/     spec.json · the stage's files · done.json (size and SHA-256 of each, written last)
    runs/<experiment>/        cells.json · report.html · summary.json · rows.csv · figures/
"""

import fcntl
import hashlib
import importlib.metadata
import json
import os
import platform
import resource
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

from selfaware import spec
from selfaware.errors import BadFile

DONE = "done.json"


@final
class Store:
    """The cells and experiments under one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def cell(self, id: str) -> "Cell":
        """The cell of that id; nothing is made until it is written."""
        return Cell(self.root / "cells" / id)

    def experiment(self, name: str) -> Path:
        """The experiment's folder, made if need be."""
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


@final
class Cell:
    """One cell's folder. Whole when `done.json` names files that are there with the right content."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def id(self) -> str:
        """The cell's id."""
        return self.folder.name

    def path(self, name: str) -> Path:
        """Where that file of the cell lies."""
        return self.folder / name

    def whole(self) -> bool:
        """Whether the cell is finished.

        Raises:
            BadFile: it says so, and a file is missing or is not what was written.
        """
        done = self.path(DONE)
        if not done.is_file():
            return False
        try:
            files = json.loads(done.read_text("utf-8"))["files"]
        except (ValueError, KeyError) as error:
            raise BadFile(f"{done}: {error!r}; a list of files is needed. Delete {self.folder} and run again.") from error
        for name, sha in files.items():
            if not self.path(name).is_file() or checksum(self.path(name)) != sha:
                raise BadFile(f"{self.path(name)}: its checksum is not {sha[:12]}…, as when it was written. Delete {self.folder} and run again.")
        return True

    def finish(self) -> None:
        """Marks the cell whole: names every file in it with its checksum."""
        files = {p.name: checksum(p) for p in sorted(self.folder.iterdir()) if p.is_file() and not p.name.startswith(".") and p.name != DONE}
        write_json(self.path(DONE), {"files": files})

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Within the context no other process works on this cell; waits for its turn."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / ".lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def checksum(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path whose file becomes `path` when the context ends well, and vanishes when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, "utf-8")


def write_json(path: Path, value: Any) -> None:
    """Writes a value as indented JSON, atomically."""
    write_text(path, json.dumps(spec.plain(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        BadFile: it is not JSON.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BadFile(f"{path}: {error}; JSON is needed. Delete it and run again.") from error


def append_lines(path: Path, values: Iterator[Mapping[str, Any]] | list[Mapping[str, Any]]) -> None:
    """Adds one JSON line for each value and flushes, so that a killed run keeps what it had."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        for value in values:
            file.write(spec.canonical(value) + "\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole JSON lines of a file; a last line cut off by a kill is left out."""
    if not path.is_file():
        return []
    lines = path.read_text("utf-8").split("\n")
    out = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            out.append(json.loads(line))
        except ValueError as error:
            raise BadFile(f"{path}:{number}: {error}; a JSON line is needed. Delete the file and run again.") from error
    return out


def clear(cell: Cell) -> None:
    """Removes a cell's folder."""
    shutil.rmtree(cell.folder, ignore_errors=True)


def environment(device: str) -> dict[str, Any]:
    """Versions, machine and peak memory of this process (GiB), for the record beside a cell."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform != "darwin" else 2**30)
    packages = {name: importlib.metadata.version(name) for name in ("selfaware", "torch", "transformers", "numpy")}
    return {
        **packages, "python": platform.python_version(), "machine": platform.machine(), "system": platform.system(), "device": device,
        "cores": os.cpu_count() or 0, "peak_gib": round(peak, 2), "commit": commit(),
    }  # fmt: skip


def commit() -> str:
    """The checked-out commit of the package's own repository, empty when it is not in one."""
    root = Path(__file__).resolve().parent.parent / ".git"
    try:
        head = (root / "HEAD").read_text("utf-8").strip()
        if not head.startswith("ref: "):
            return head[:12]
        ref = root / head[5:]
        packed = (root / "packed-refs").read_text("utf-8") if not ref.is_file() else ""
        found = ref.read_text("utf-8").strip() if ref.is_file() else next((x.split()[0] for x in packed.splitlines() if x.endswith(head[5:])), "")
        return found[:12]
    except OSError:
        return ""
