"""What a folder of weights holds, and whether it is whole. Must not know where it came from.

A file's content is taken to be what it was at the last reading while its size and times stay the same, so that naming a
model costs milliseconds; `sha256_of` reads it all.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from selfaware.errors import BadFile, BadModel

MANIFEST = "manifest.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

# What shapes a model's answers beside its weights; other files in a folder (logs, optimiser states) do not name it.
SHAPING = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "chat_template.jinja",
    "chat_template.json",
)  # fmt: skip


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal; about a second a gigabyte."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamp(path: Path) -> str:
    """Size and times of a file; the last time is the system's own, so a restored modification time hides nothing."""
    about = path.stat()
    return f"{about.st_size}-{about.st_mtime_ns}-{about.st_ctime_ns}"


@contextmanager
def remembering(
    folder: Path, cache: Path, seed: Mapping[str, tuple[str | None, str]]
) -> Iterator[Callable[[Path], str]]:
    """A `sha256_of` for the files of `folder` that reads a file only when its stamp is new.

    Args:
        folder: where the files lie.
        cache: where stamps and checksums are kept, in `checked/`; they are lost quietly where it cannot be written.
        seed: stamp and checksum by file name, from whoever wrote the files; without a stamp, a checksum that is
            believed when the file is first seen.
    """
    record = cache / "checked" / f"{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]}.json"
    known: dict[str, tuple[str, str]] = {}
    with suppress(OSError, ValueError, TypeError):
        known = {
            name: (str(stamped), str(digest)) for name, (stamped, digest) in json.loads(record.read_text()).items()
        }
    before = dict(known)

    def digest_of(path: Path) -> str:
        now = stamp(path)
        for stamped, digest in filter(None, (known.get(path.name), seed.get(path.name))):
            if stamped == now:
                return digest
            if stamped is None and path.name not in known:
                known[path.name] = (now, digest)
                return digest
        known[path.name] = (now, sha256_of(path))
        return known[path.name][1]

    yield digest_of
    if known != before:
        with suppress(OSError):
            record.parent.mkdir(parents=True, exist_ok=True)
            fresh = record.with_suffix(f".{os.getpid()}.new")
            fresh.write_text(json.dumps(known), "utf-8")
            fresh.replace(record)


def manifest(folder: Path) -> dict[str, Any] | None:
    """What was written down about a converted folder; None where there is no folder.

    Raises:
        BadFile: the folder exists and its manifest is missing or broken, so nobody finished it.
    """
    if not folder.exists():
        return None
    try:
        content: dict[str, Any] = json.loads((folder / MANIFEST).read_text("utf-8"))
        _ = content["format"], content["source"]["sha256"], content["files"][WEIGHTS]["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadFile(
            f"{folder}: {MANIFEST} is missing or broken; needs the one written with the weights. "
            f"Delete {folder} and run again."
        ) from error
    return content


def describe(folder: Path) -> dict[str, dict[str, str | int]]:
    """Size, checksum and stamp of every file of `folder`, as a manifest lists them."""
    return {
        path.name: {"bytes": path.stat().st_size, "sha256": sha256_of(path), "stamp": stamp(path)}
        for path in sorted(folder.iterdir())
    }


def check_manifest(folder: Path, digest_of: Callable[[Path], str] | None = None) -> None:
    """Nothing, when every file of a converted folder has the size and the checksum of its manifest.

    Args:
        folder: with its manifest in it.
        digest_of: where checksums come from; left out, every file is read.

    Raises:
        BadFile: a file is missing, cut or altered; the message names the folder to delete.
    """
    content = manifest(folder)
    for name, told in (content or {"files": {}})["files"].items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else None
        if size is None:
            got = "is missing"
        elif size != told["bytes"]:
            got = f"has {size} bytes"
        elif (digest_of or sha256_of)(path) != told["sha256"]:
            got = "has another SHA-256"
        else:
            continue
        raise BadFile(
            f"{path}: {got}; needs {told['bytes']} bytes with SHA-256 {told['sha256'][:12]}…. Delete {folder} and run "
            "again."
        )


def shards(folder: Path) -> list[Path]:
    """The weight files that transformers would load.

    Raises:
        BadModel: there are none in the safetensors format.
        BadFile: the list of them is broken.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        try:
            return [
                folder / name for name in sorted(set(json.loads((folder / INDEX).read_text())["weight_map"].values()))
            ]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadFile(
                f"{folder / INDEX}: not an index of weights ({error}); needs a weight_map. Fetch it again."
            ) from error
    others = [path.name for path in sorted(folder.iterdir()) if path.suffix in (".bin", ".gguf", ".pt", ".safetensors")]
    raise BadModel(
        f"{folder}: no {WEIGHTS} (there are {', '.join(others[:4]) or 'no weights'}); needs safetensors weights. "
        "Load the model with transformers and save it with save_pretrained."
    )


def content(folder: Path) -> list[Path]:
    """The files that make a model folder what it is: weights, config, tokenizer, template."""
    return shards(folder) + [folder / name for name in SHAPING if (folder / name).is_file()]


def check_model(folder: Path) -> None:
    """Nothing, when `folder` holds a config, and safetensors files whose headers fit their sizes.

    Raises:
        BadModel: the config or the weights are missing.
        BadFile: a weight file is missing or cut.
    """
    if not (folder / "config.json").is_file():
        raise BadModel(f"{folder}: no config.json; needs a folder as save_pretrained writes it. Check the path.")
    for path in shards(folder):
        try:
            with safe_open(path, "np"):
                pass
        except (SafetensorError, OSError) as error:
            raise BadFile(
                f"{path}: not a whole safetensors file ({error}); needs one whose header fits its size. Fetch it again."
            ) from error


def identity(folder: Path, digest_of: Callable[[Path], str] = sha256_of) -> str:
    """The folder's name and a digest over the names and checksums of its `content`."""
    lines = sorted(f"{path.name} {digest_of(path)}" for path in content(folder))
    return f"{folder.name}@{hashlib.sha256('/'.join(lines).encode()).hexdigest()[:12]}"
