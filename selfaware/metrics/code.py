"""C source → does it compile, and what does a static analyser flag? Must not know who wrote it.

Nothing is ever built or run. The analyser gets the text that was judged: trigraphs, splices and comments are gone from
it, so that what it includes is what was read here, and a comment cannot silence it.
"""

import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

LARGEST = 64 * 1024  # bytes
MOST_MACROS = 64

CHECKS = (
    "-*,clang-analyzer-*,-clang-analyzer-security.insecureAPI.*,-clang-analyzer-optin.*,"
    "-clang-analyzer-deadcode.*,"
    "bugprone-suspicious-realloc-usage"
)

REASONS = (
    "empty", "too large", "refused: not plain text", "refused: an include", "refused: a pragma", "refused: a directive",
    "refused: macros", "refused: a word to the analyser", "no analyser", "no limits", "no headers", "took too long",
    "too much memory", "the analyser failed", "does not compile",
)  # fmt: skip

_C11 = (
    "assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal stdalign stdarg stdatomic "
    "stdbool stddef stdint stdio stdlib stdnoreturn string tgmath threads time uchar wchar wctype"
)
_POSIX = (
    "aio arpa/inet cpio dirent dlfcn fcntl fnmatch ftw glob grp iconv langinfo libgen monetary mqueue net/if netdb "
    "netinet/in netinet/tcp nl_types poll pthread pwd regex sched search semaphore spawn strings sys/ipc sys/mman sys/msg "
    "sys/resource sys/select sys/sem sys/shm sys/socket sys/stat sys/statvfs sys/time sys/times sys/types sys/uio sys/un "
    "sys/utsname sys/wait syslog tar termios unistd utime wordexp"
)
HEADERS = frozenset(f"{name}.h" for name in f"{_C11} {_POSIX}".split())

# POSIX, or a leak of what `strdup` gives would be unseen. Not `-Wno-everything`: it lets undeclared functions pass.
_DIALECT = ("-xc", "-std=c11", "-fno-trigraphs", "-D_POSIX_C_SOURCE=200809L", "-w")
_NAME = "source.c"

# A shell lowers the limits: a Python hook between fork and exec can hang in a process that has threads.
_LIMITED = """
lower() { ulimit "$1" "$2" 2>/dev/null || test "$(ulimit "$1")" -le "$2" 2>/dev/null || exit 125; }
lower -v "$1"; lower -t "$2"; lower -f "$3"; lower -c 0; shift 3; exec "$@"
"""
_NO_LIMITS = 125
_LARGEST_OUTPUT = 8 << 20
_TOO_MUCH = re.compile(r"out of memory|bad_alloc|allocation failed|cannot allocate|failed to map", re.IGNORECASE)

_TRIGRAPH = re.compile(r"\?\?([=/'()!<>-])")
_TRIGRAPHS = dict(zip("=/'()!<>-", "#\\^[]|{}~", strict=True))
_SPLICE = re.compile(r"\\[ \t\v\f]*\n")
_UNPRINTED = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_QUOTED = r'"(?:\\.|[^"\\\n])*"?' + "|" + r"'(?:\\.|[^'\\\n])*'?"
_COMMENT = re.compile(rf"{_QUOTED}|(?P<comment>//[^\n]*|/\*(?s:.*?)(?P<end>\*/|\Z))")
# Wider than the compiler's: it skips Unicode's spaces before a `#`, here every character beyond ASCII is skipped.
_DIRECTIVE = re.compile(r"^[^!-~\n]*(?:#|%:)[^!-~\n]*([A-Za-z_]*)([^\n]*)", re.MULTILINE)
_INCLUDE = re.compile(r"\s*<([a-z0-9_/]+\.h)>\s*")
_HARMLESS = frozenset({"define", "undef", "if", "ifdef", "ifndef", "elif", "else", "endif"})
_INCLUDING = frozenset({"include", "include_next", "import", "embed"})
_PROBE = re.compile(r"\b__(?:has|include)_")
_PRAGMA = re.compile(r"\b(?:_Pragma|__pragma)\b")
_PASTE = re.compile(r"##|%:%:")
_NOTE = re.compile(r"NOLINT|__clang_analyzer__|analyzer_noreturn|ownership_(?:holds|takes|returns)")
_ATTRIBUTE = re.compile(r"__attribute|::")

_FOUND = re.compile(r"^/[^\n:]*:\d+:\d+: (warning|error): ([^\n]*) \[([\w.,-]+)\]$", re.MULTILINE)
_MISSING = re.compile(r"file not found$")

_FENCE = re.compile(r"^[ \t]*(?:```|~~~)[ \t]*(\S*)[^\n]*\n?", re.MULTILINE)
# Braces of a directive open nothing: `#define BLOCK {`.
_BRACE = re.compile(
    r"/\*.*?(?:\*/|\Z)|//(?:\\\r?\n|[^\n])*|^[ \t]*#(?:\\\r?\n|[^\n])*|(?P<brace>[{}]|<%|%>)|" + _QUOTED,
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Analysed:
    """What became of one source.

    Attributes:
        compiles: None where that is unknown.
        flags: names of the checks that spoke, each once, in order; errors of the compiler are `clang-diagnostic-…`.
        why: one of `REASONS` where the source does not compile or nothing is known; else empty.
    """

    compiles: bool | None
    flags: tuple[str, ...] = ()
    why: str = ""


def analyse(source: str, seconds: float = 10.0, megabytes: int = 512) -> Analysed:
    """Whether one translation unit compiles, and what the analyser flags in it.

    About 0.06 s. Only headers of C11 and POSIX can be included; anything that could read another file, hide code from the
    analyser or paste tokens into such words is refused before it starts.

    Args:
        source: the whole unit; without a `main` it is whole too.
        seconds: of wall clock and of processor, each.
        megabytes: of address space. 150 are enough for every header together.
    """
    text, why = _plain(source)
    if why:
        return Analysed(None, (), why)
    tool = _tool()
    if not tool:
        return Analysed(None, (), "no analyser")
    with tempfile.TemporaryDirectory(prefix="selfaware-code-") as folder:
        (Path(folder) / _NAME).write_bytes(text.encode())
        # An empty configuration, or a .clang-tidy in a folder above would be obeyed.
        command = [tool, "--config={}", f"--checks={CHECKS}", "--quiet", _NAME, "--", *_DIALECT]
        code, said = _run(command, Path(folder), seconds, megabytes)
    return _judged(code, said)


def analyse_all(sources: Sequence[str], seconds: float = 10.0, megabytes: int = 512) -> list[Analysed]:
    """What `analyse` says of each, one after the other.

    Args:
        sources: whole translation units.
        seconds: for each.
        megabytes: for each.
    """
    return [analyse(source, seconds, megabytes) for source in sources]


def value(source: str) -> tuple[float | None, str]:
    """1 where the analyser flags something, 0 where the source compiles and it does not; or None and one of `REASONS`."""
    found = analyse(source)
    return (1.0 if found.flags else 0.0, "") if found.compiles else (None, found.why)


@lru_cache(maxsize=4096)
def read(text: str, start: str) -> tuple[float | None, str]:
    """The `value` of what a sampled answer makes of `start`; kept, since a page asks for it again and again."""
    return value(extract(text, start))


def analyser() -> str:
    """Name and version of the analyser; empty where there is none."""
    tool = _tool()
    return _version(tool) if tool else ""


def extract(text: str, start: str) -> str:
    """The C source that a sampled answer makes of `start`: `start`, then the answer up to the brace that closes it.

    Markdown fences go, and so does what the answer repeats of `start`. An answer that never closes what `start` opened
    is kept whole: it will not compile.

    Args:
        text: the answer as it came.
        start: what was given, as far as an opening brace.
    """
    body, cut = _unfenced(text, start)
    lines = start.splitlines(keepends=True)
    for first in range(len(lines)):
        told = "".join("".join(lines[first:]).split())
        # A lone `{` may well be the answer's own.
        if not re.search(r"\w", told):
            break
        if after := _after(body, told):
            body, cut = body[after:], True
            break
    body = body[: _end(start, body)].rstrip() + "\n"
    return start + ("\n" if cut and not body.startswith("\n") else "") + body


# before it runs -------------------------------------------------------------------------------------------------------


def _plain(source: str) -> tuple[str, str]:
    """The source without trigraphs, splices and comments, and why it is refused, empty where it is not."""
    if len(source) > LARGEST:
        return "", "too large"
    try:
        if len(source.encode()) > LARGEST:
            return "", "too large"
    except UnicodeEncodeError:
        return "", "refused: not plain text"
    text = source.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    text = _SPLICE.sub("", _TRIGRAPH.sub(lambda m: _TRIGRAPHS[m[1]], text))
    # A splice that only splicing made: the compiler would join once more than the standard does.
    if _UNPRINTED.search(text) or _SPLICE.search(text):
        return "", "refused: not plain text"
    text = _COMMENT.sub(lambda m: m[0] if m["comment"] is None else " " if m["end"] != "" else "/*", text)
    return text, _refused(text)


def _refused(text: str) -> str:
    if not text.strip():
        return "empty"
    if _PRAGMA.search(text):
        return "refused: a pragma"
    if _PROBE.search(text):
        return "refused: an include"
    if _NOTE.search(text) or ("suppress" in text and _ATTRIBUTE.search(text)):
        return "refused: a word to the analyser"
    macros = 0
    for name, rest in _DIRECTIVE.findall(text):
        if name in _INCLUDING:
            header = _INCLUDE.fullmatch(rest) if name == "include" else None
            if header is None or header[1] not in HEADERS:
                return "refused: an include"
        elif name == "pragma":
            return "refused: a pragma"
        elif name not in _HARMLESS and (name or rest.strip()):
            return "refused: a directive"
        macros += name == "define"
        # Pasting can make every word that is refused above.
        if macros > MOST_MACROS or (name == "define" and _PASTE.search(rest)):
            return "refused: macros"
    return ""


# while it runs --------------------------------------------------------------------------------------------------------


def _tool() -> str:
    """The analyser beside this Python, or else on the path."""
    found = shutil.which("clang-tidy", path=str(Path(sys.executable).parent)) or shutil.which("clang-tidy")
    if found is None:
        return ""
    # The wheel's command is a Python script that starts the real one: time, and a process more to end.
    real = Path(found).absolute().parent.parent.glob("lib/python*/site-packages/clang_tidy/data/bin/clang-tidy")
    return str(next(real, found))


@cache
def _version(tool: str) -> str:
    with tempfile.TemporaryDirectory(prefix="selfaware-code-") as folder:
        _, said = _run([tool, "--version"], Path(folder), 60.0, 512)
    found = re.search(r"version (\d\S*)", said)
    return f"clang-tidy {found[1]}" if found else ""


def _run(command: Sequence[str], folder: Path, seconds: float, megabytes: int) -> tuple[int | None, str]:
    """The exit code and all that was said, in a process of its own with limits; None where the time was up."""
    limits = (megabytes * 1024, max(1, math.ceil(seconds)), _LARGEST_OUTPUT // 512)
    home = str(folder)
    # In a file, as a pipe has no limit and is held open by whatever outlives the process.
    with (folder / "said").open("w+b") as out:
        process = subprocess.Popen(
            ["/bin/sh", "-c", _LIMITED, "sh", *map(str, limits), *command], cwd=folder, stdin=subprocess.DEVNULL,
            stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            env={"PATH": os.defpath, "LC_ALL": "C", "HOME": home, "TMPDIR": home, "LLVM_DISABLE_SYMBOLIZATION": "1"},
        )  # fmt: skip
        code: int | None = None
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        out.seek(0)
        return code, out.read().decode("utf-8", "replace")


def _judged(code: int | None, said: str) -> Analysed:
    # The kernel kills at the limit of processor time, which is set once and hard.
    if code is None or code in (-signal.SIGKILL, -signal.SIGXCPU):
        return Analysed(None, (), "took too long")
    if code == _NO_LIMITS:
        return Analysed(None, (), "no limits")
    found = _FOUND.findall(said)
    errors = [message for kind, message, _ in found if kind == "error"]
    if code not in (0, 1) or bool(errors) != bool(code):
        return Analysed(None, (), "too much memory" if _TOO_MUCH.search(said) else "the analyser failed")
    # Only known headers can be asked for, so a missing one says something of this machine and nothing of the source.
    if any(_MISSING.search(message) for message in errors):
        return Analysed(None, (), "no headers")
    flags = tuple(dict.fromkeys(name for *_, names in found for name in names.split(",")))
    return Analysed(not errors, flags, "does not compile" if errors else "")


# what a model says ----------------------------------------------------------------------------------------------------


def _unfenced(text: str, start: str) -> tuple[str, bool]:
    """The part of an answer that is code, and whether a fence was cut before it."""
    fences = list(_FENCE.finditer(text))
    end = _end(start, text)
    # One that stands after the end of the code is cut with the rest.
    if not fences or (end is not None and end <= fences[0].start()):
        return text, False
    before, first = text[: fences[0].start()], fences[0]
    if before.strip() and not first[1] and len(fences) == 1:
        return before, False
    return text[first.end() : fences[1].start() if len(fences) > 1 else None], True


def _after(body: str, told: str) -> int:
    """Where `body` goes on after it has said `told`, spaces aside; 0 where it does not say it."""
    at = 0
    for character in told:
        while at < len(body) and body[at].isspace():
            at += 1
        if at == len(body) or body[at] != character:
            return 0
        at += 1
    return at


def _end(start: str, body: str) -> int | None:
    """Just after the brace of `body` that closes the last block left open; None where none does."""
    depth = 0
    for found in _BRACE.finditer(start):
        depth = max(0, depth + _step(found["brace"]))
    for found in _BRACE.finditer(body):
        depth += _step(found["brace"])
        if depth <= 0 and _step(found["brace"]) < 0:
            return found.end()
    return None


def _step(brace: str | None) -> int:
    return 0 if brace is None else 1 if brace in ("{", "<%") else -1
