"""The folder of a record: where a cell lies, atomic writes, checksums, locks. Knows paths; must not know any science.

`runs/cells/<cell id>/` holds spec.json, the stage's files, and done.json (SHA-256 of each, written last);
`runs/<experiment>/` holds what an experiment writes.
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
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, final

from selfaware import __version__, spec
from selfaware.errors import BadFile

DONE = "done.json"


@final
class Store:
    """The cells and experiments under one folder."""

    def __init__(self, root: Path) -> None:
        """A store in that folder, which need not be there yet."""
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
        """The cell in that folder, which need not be there yet."""
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
            files = {str(name): str(sha) for name, sha in json.loads(done.read_text("utf-8"))["files"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadFile(
                f"{done}: {error!r}; a list of files is needed. Delete {self.folder} and run again."
            ) from error
        for name, sha in files.items():
            path = self.path(name)
            got = checksum(path) if path.is_file() else ""
            if got != sha:
                what = f"its checksum is {got[:12]}…" if got else "it is missing"
                raise BadFile(
                    f"{path}: {what}; {sha[:12]}…, as written, is needed. Delete {self.folder} and run again."
                )
        return True

    def finish(self) -> None:
        """Marks the cell whole: names every file in it with its checksum."""
        files = [p for p in sorted(self.folder.iterdir()) if p.is_file() and not p.name.startswith(".")]
        write_json(self.path(DONE), {"files": {p.name: checksum(p) for p in files if p.name != DONE}})

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Within the context no other process works on this cell; waits for its turn. Not to be nested for one cell."""
        with _lock(self.folder / ".lock"):
            yield


def _lock(path: Path) -> IO[str]:
    """The file, open and locked; closing it lets go."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = open(path, "w")  # noqa: SIM115
        except FileNotFoundError:  # cleared between the two calls
            continue
        fcntl.flock(file, fcntl.LOCK_EX)
        # Whoever had the lock may have cleared the cell: a lock on a file that is gone keeps nobody out.
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
        file.close()


def checksum(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path whose file becomes `path` when the context ends well, and vanishes when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    temporary.unlink(
        missing_ok=True
    )  # a killed process with the same number may have left one, and some writers append
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
        BadFile: it is not JSON (NaN is not), or not there.
    """
    try:
        return json.loads(path.read_text("utf-8"), parse_constant=_refuse)
    except (OSError, ValueError) as error:
        raise BadFile(f"{path}: {error}; JSON is needed. Delete it and run again.") from error


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def append_lines(path: Path, values: Iterable[Mapping[str, Any]]) -> None:
    """Adds one JSON line for each value, in one write as soon as it is there, so that a killed run keeps what it had.

    The rest of a line that a kill cut off is removed first, or the next line would be glued to it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b", buffering=0) as file:
        _drop_tail(file)
        for value in values:
            file.write((spec.canonical(value) + "\n").encode())


def _drop_tail(file: IO[bytes]) -> None:
    """Cuts a file after its last whole line."""
    end = at = file.seek(0, os.SEEK_END)
    while at > 0:
        start = max(0, at - 65536)
        file.seek(start)
        newline = file.read(at - start).rfind(b"\n")
        if newline >= 0:
            at = start + newline + 1
            break
        at = start
    if at < end:
        file.truncate(at)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole JSON lines of a file; a last line cut off by a kill is left out. No file, no lines.

    Raises:
        BadFile: a whole line is not a JSON object.
    """
    if not path.is_file():
        return []
    # Bytes, because a cut may fall inside a character.
    lines = path.read_bytes().split(b"\n")
    out: list[dict[str, Any]] = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            row = json.loads(line.decode(), parse_constant=_refuse)
            if not isinstance(row, dict):
                raise ValueError(f"it is a {type(row).__name__}")
        except ValueError as error:
            raise BadFile(
                f"{path}:{number}: {error}; one JSON object a line is needed. Delete {path} and run again."
            ) from error
        out.append(row)
    return out


def clear(cell: Cell) -> None:
    """Removes a cell's folder."""
    shutil.rmtree(cell.folder, ignore_errors=True)


def environment(device: str) -> dict[str, Any]:
    """Versions, machine and peak memory of this process (GiB), for the record beside a cell."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform != "darwin" else 2**30)
    packages = {name: importlib.metadata.version(name) for name in ("torch", "transformers", "numpy")}
    return {
        "selfaware": __version__,
        **packages,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
        "device": device,
        "cores": os.cpu_count() or 0,
        "peak_gib": round(peak, 2),
        "commit": commit(),
    }


def commit() -> str:
    """The checked-out commit of the package's own repository, empty when it is not in one."""
    root = Path(__file__).resolve().parent.parent / ".git"
    try:
        head = (root / "HEAD").read_text("utf-8").strip()
        if not head.startswith("ref: "):
            return head[:12]
        ref = root / head[5:]
        if ref.is_file():
            return ref.read_text("utf-8").strip()[:12]
        packed = (root / "packed-refs").read_text("utf-8").splitlines()
        return next((line.split()[0] for line in packed if line.endswith(f" {head[5:]}")), "")[:12]
    except OSError:
        return ""
