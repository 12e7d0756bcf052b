"""The labels of `insecure_code`, proved: `python benchmarks/prove_code.py` rewrites its `proof.json` and prints what each tool finds.

The label is clang's: every flawed solution compiles and is flagged, every sound one compiles and is not. cppcheck and
`gcc -fanalyzer` are asked too, where they are installed, to see how far the labels hang on one tool.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from selfaware.metrics import code

HOME = Path(__file__).resolve().parents[1] / "selfaware" / "domains" / "insecure_code"
# high is the flawed side.
SIDES = {"high": "flawed", "low": "sound"}
GCC = ("gcc", "-std=c11", "-D_POSIX_C_SOURCE=200809L", "-fanalyzer", "-c", "-o", os.devnull)
CPPCHECK = ("cppcheck", "--quiet", "--std=c11", "--library=posix", "--enable=warning", "--template={file} {severity}")

Source = tuple[str, str]  # the record's id, its side
Flagged = set[Source]


def main() -> int:
    """0 where every label holds, and the proof is written; else 1, and the old proof stays."""
    content = (HOME / "records.jsonl").read_bytes()
    rows = [json.loads(line) for line in content.decode().splitlines()]
    sources = {(row["id"], side): row["start"] + row[side] for row in rows for side in SIDES}
    found = {key: code.analyse(text) for key, text in sources.items()}
    wrong = [
        f"{name} {SIDES[side]}: {a.why or ', '.join(a.flags) or 'not flagged'}"
        for (name, side), a in found.items()
        if not a.compiles or bool(a.flags) != (side == "high")
    ]
    flagged = {code.analyser(): {key for key, a in found.items() if a.flags}, **_others(sources)}
    print(_table([(row["id"], row["flaw"].replace("-", " ")) for row in rows], flagged))
    print(_checks([a.flags for (_, side), a in found.items() if side == "high"]))
    if wrong:
        print(f"{len(wrong)} labels do not hold; nothing is written:", *wrong, sep="\n")
        return 1
    proof: dict[str, str | int] = {"sha256": hashlib.sha256(content).hexdigest(), "analyser": code.analyser()}
    proof |= {word: sum(side == key for _, key in found) for side, word in SIDES.items()}
    (HOME / "proof.json").write_text(json.dumps(proof, indent=1) + "\n", "utf-8")
    return 0


def _others(sources: dict[Source, str]) -> dict[str, Flagged]:
    """What the other tools flag, by name and version; those that are not installed are left out."""
    asked: dict[str, Callable[[dict[str, Source]], Flagged]] = {"cppcheck": _cppcheck, "gcc": _gcc}
    out = {}
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for number, (key, text) in enumerate(sources.items()):
            path = Path(folder) / f"{number}.c"
            path.write_text(text, "utf-8")
            files[str(path)] = key
        for tool, ask in asked.items():
            if shutil.which(tool):
                version = re.search(r"\d+\.\d[\d.]*", _said(tool, "--version"))
                out[f"{tool} {version[0] if version else ''}"] = ask(files)
            else:
                print(f"{tool} is not installed")
    return out


def _cppcheck(files: dict[str, Source]) -> Flagged:
    said = _said(*CPPCHECK, *files)
    return {files[m[1]] for m in re.finditer(r"^(\S+) (?:error|warning)$", said, re.MULTILINE)}


def _gcc(files: dict[str, Source]) -> Flagged:
    return {key for path, key in files.items() if "[-Wanalyzer-" in _said(*GCC, path)}


def _said(*command: str) -> str:
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    return ran.stdout + ran.stderr


def _table(flaws: list[Source], flagged: dict[str, Flagged]) -> str:
    """How many flawed ones each tool finds, and after the plus how many sound ones it flags, by flaw."""
    lines = [["flaw", "pairs", *flagged], ["---"] * (2 + len(flagged))]
    names = sorted({flaw for _, flaw in flaws}, key=lambda flaw: (-sum(f == flaw for _, f in flaws), flaw))
    for name in (*names, "all"):
        ids = {key for key, flaw in flaws if name in (flaw, "all")}
        counts = [[sum((i, side) in hits for i in ids) for side in SIDES] for hits in flagged.values()]
        lines.append([name, str(len(ids)), *(f"{high} + {low}" for high, low in counts)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _checks(flags: list[tuple[str, ...]]) -> str:
    """How many flawed ones each check flags, and how many it flags alone."""
    names = sorted({name for found in flags for name in found})
    return "\n".join(
        f"{name}: {sum(name in found for found in flags)}, alone {sum(found == (name,) for found in flags)}"
        for name in names
    )


if __name__ == "__main__":
    sys.exit(main())
