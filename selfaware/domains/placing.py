"""Files in a new folder, all at once. Knows text and paths; must not know what is written."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from selfaware.errors import BadData


def place(out: Path, files: Mapping[str, str]) -> None:
    """The files in a new folder, all at once.

    Raises:
        BadData: something stands there already, or nothing can be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # A rename puts the whole folder there at once; it fails where somebody has put something there meanwhile.
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as near:
            folder = Path(near) / out.name
            folder.mkdir()
            for name, text in files.items():
                # Only a file's name can hold what UTF-8 can't: the texts of the records have been looked at.
                (folder / name).write_bytes(text.encode("utf-8", "replace"))
            folder.rename(out)
    except OSError as error:
        raise BadData(f"{out}: {error.strerror}; a place for a new folder is needed. Name another.") from error
