"""C source: the real analyser flags flaws and nothing else; hostile text is refused or ends with a reason; nothing runs."""

import tempfile
import time
from pathlib import Path

import pytest

from selfaware.metrics import code

HEAD = "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n"
START = HEAD + "\nint f(const char *s)\n{"
LEAK = "\n    char *p = malloc(3);\n    if (!p || !s)\n        return 0;\n    free(p);\n    return 1;\n}\n"
SOUND = "\n    char *p = malloc(3);\n    if (!p)\n        return 0;\n    free(p);\n    return s != 0;\n}\n"
TWICE = "\n    char *p = malloc(3);\n    free(p);\n    if (!s)\n        free(p);\n    return 1;\n}\n"
AFTER = "\n    char *p = strdup(s);\n    if (!p)\n        return 0;\n    free(p);\n    return p[0];\n}\n"

real = pytest.mark.skipif(not code.analyser(), reason="no clang-tidy")


@pytest.fixture
def only_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """What must be settled before a process is started."""

    def never(*_: object) -> None:
        raise AssertionError("something was started")

    monkeypatch.setattr(code, "_run", never)
    monkeypatch.setattr(code, "_tool", lambda: "clang-tidy")


# what is flagged ------------------------------------------------------------------------------------------------------


@real
@pytest.mark.parametrize("body", [LEAK, TWICE, AFTER], ids=["leak", "double free", "use after free"])
def test_a_flaw_of_memory_is_flagged(body: str) -> None:
    assert code.analyse(START + body) == code.Analysed(True, ("clang-analyzer-unix.Malloc",))
    assert code.value(START + body) == (1.0, "")


@real
def test_sound_code_is_not() -> None:
    assert code.analyse(START + SOUND) == code.Analysed(True)
    assert code.value(START + SOUND) == (0.0, "")


@real
@pytest.mark.parametrize(
    "source",
    [
        "int f(", "Sure, here is the code.", START, "int f(void) { return 1; ", "int f(void) { return undeclared(); }",
        "int f(void) { return strlen(\"a\"); }", "char *f(void) { return 7; }", "/* open\nint x;", "int don't;",
    ],
)  # fmt: skip
def test_what_does_not_compile_is_unknown_whatever_else_is_wrong_with_it(source: str) -> None:
    found = code.analyse(source)
    assert (found.compiles, found.why) == (False, "does not compile")
    assert found.flags and all(name.startswith("clang-diagnostic-") for name in found.flags)
    assert code.value(source) == (None, "does not compile")


@real
def test_a_batch_is_each_alone() -> None:
    found = code.analyse_all([START + LEAK, "int f(", START + SOUND, ""])
    assert [(a.compiles, bool(a.flags), a.why) for a in found] == [
        (True, True, ""), (False, True, "does not compile"), (True, False, ""), (None, False, "empty"),
    ]  # fmt: skip


@real
@pytest.mark.parametrize(
    "hidden",
    [
        LEAK.replace("return 0;", "return 0; // NOLINT"),
        LEAK.replace("return 0;", "return 0; /* NOLINT */"),
        " // NOLINTBEGIN" + LEAK + "// NOLINTEND\n",
    ],
)
def test_a_comment_does_not_silence_the_analyser(hidden: str) -> None:
    assert code.value(START + hidden) == (1.0, "")


@real
def test_a_configuration_nearby_is_not_obeyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".clang-tidy").write_text("Checks: '-*'\nWarningsAsErrors: '*'\n")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("CPATH", str(tmp_path))
    (tmp_path / "stdlib.h").write_text("#error found\n")
    assert code.value(START + LEAK) == (1.0, "")


@real
@pytest.mark.parametrize("text", ['"{ /* \\" // }"', "'\\''", "'\"'", '"NO" "LINT"', '"\u00e9 \u4e16"', '"\\?\\?/"'])
def test_strings_and_characters_are_left_as_they_are(text: str) -> None:
    source = f"unsigned long f(void) {{ /* ' \" */ return sizeof {text}; }}"
    assert code.value(source) == (0.0, "")
    assert code._plain(source)[0] == source.replace("/* ' \" */", " ")


@real
def test_the_analyser_says_its_name() -> None:
    name, version = code.analyser().split()
    assert name == "clang-tidy" and int(version.split(".")[0]) >= 23


def test_without_an_analyser_everything_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "_tool", lambda: "")
    assert code.analyser() == ""
    assert code.value(START + SOUND) == (None, "no analyser")


def test_a_missing_header_is_this_machines_fault() -> None:
    said = "/t/source.c:1:10: error: 'stdio.h' file not found [clang-diagnostic-error]\n"
    assert code._judged(1, said) == code.Analysed(None, (), "no headers")


@pytest.mark.parametrize(
    ("exit_code", "said", "why"),
    [
        (None, "", "took too long"), (-9, "", "took too long"), (-24, "", "took too long"), (125, "", "no limits"),
        (-6, "LLVM ERROR: out of memory\n", "too much memory"), (-11, "", "the analyser failed"),
        (1, "", "the analyser failed"), (127, "sh: not found", "the analyser failed"),
        (0, "/t/source.c:1:1: error: no [clang-diagnostic-error]\n", "the analyser failed"),
    ],
)  # fmt: skip
def test_an_analyser_that_ends_badly_says_nothing_of_the_source(exit_code: int | None, said: str, why: str) -> None:
    assert code._judged(exit_code, said) == code.Analysed(None, (), why) and why in code.REASONS


@real
def test_what_the_source_says_is_not_taken_for_what_the_analyser_says() -> None:
    line = "/t/source.c:1:1: warning: leak [clang-analyzer-unix.Malloc]"
    assert code.value(f'int f(int *p)\n{{ if (p) return 1; return *p; }}\nconst char *t = "{line}";') == (1.0, "")
    assert code.value(f'#include <stddef.h>\nconst char *f(void) {{ return "{line}"; }}') == (0.0, "")


# hostile --------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("only_read")
@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("", "empty"), (" \n\t\n", "empty"), ("/* int x; */ // y", "empty"), ("\ufeff", "empty"), ("\\\n" * 30000, "empty"),
        ("int a;\n" * 1_500_000, "too large"), ("/*" + "é" * 40000, "too large"),
        ("int \ud800;", "refused: not plain text"), ('char *s = "\udcff";', "refused: not plain text"),
        ("int x;\x00", "refused: not plain text"), ("int x;\x1b[2J", "refused: not plain text"),
        ("int x; \\\\\n\n", "refused: not plain text"),
        *((f"{include}\nint x;", "refused: an include") for include in (
            '#include "/dev/zero"', '#include "/etc/passwd"', "#include </etc/passwd>", '#include "stdio.h"',
            "#include <../../etc/passwd>", "#include <sys/../stdio.h>", "#include <linux/limits.h>", "#include <stdio.h",
            "#include stdio.h", "#include", "#define H </etc/passwd>\n#include H", "#include <stdio.h> <stdlib.h>",
            "#include_next <stdio.h>", "#import <stdio.h>", '#embed "/dev/zero"', "char a[] = {\n#embed </dev/zero>\n};",
            '%:include "/dev/zero"', '??=include "/dev/zero"', '#inc\\\nlude "/dev/zero"', '#inc??/\nlude "/dev/zero"',
            '#\\\ninclude "/dev/zero"', '#inc\\  \nlude "/dev/zero"', '#inc\\\r\nlude "/dev/zero"', '\\\n#include "/dev/zero"',
            'int y;\r#include "/dev/zero"', '\v\f #\tinclude "/dev/zero"', '/* */ # /* \n */ include "/dev/zero"',
            '\u00a0#include "/dev/zero"', '\u2003#\u3000include "/dev/zero"', '\ufeff#include "/dev/zero"',
            '// " \n#include "/dev/zero"', 'char q = \'"\';\n#include "/dev/zero"\n// "', '"\n#include "/dev/zero"\n"',
            '#if 0\n#include "/dev/zero"\n#endif', '/* open\n#include "/dev/zero"\n*/\n#include "/dev/zero"',
            '#if __has_include("/etc/passwd")\n#endif', '#if __has_embed("/dev/zero")\n#endif',
            '#ifdef X\n#elif __has_include_next(<a.h>)\n#endif',
        )),
        *((f"{line}\nint x;", "refused: a pragma") for line in (
            "#pragma once", "#pragma GCC system_header", '_Pragma("clang diagnostic push")', "%:pragma x",
            '#define P _Pragma("x")', "__pragma(x)",
        )),
        *((f"{line}\nint x;", "refused: a directive") for line in (
            '#line 3 "/etc/passwd"', '# 33 "/etc/passwd" 3', "#error no", "#warning no", "#ident x", "#in\\u0063lude <a>",
            "#42", "## Solution", "#define_",
        )),
        ("#define P(a, b) a ## b\nP(_Pra, gma)(\"x\")", "refused: macros"), ("#define P(a, b) a%:%:b", "refused: macros"),
        ("#define P(a, b) a?" "?=?" "?=b", "refused: macros"),
        ("".join(f"#define M{i} {i}\n" for i in range(65)), "refused: macros"),
        *((source, "refused: a word to the analyser") for source in (
            'char *s = "NOLINT";', "#ifndef __clang_analyzer__\nint x;\n#endif", "#define S suppress\n[[clang::S]] int x;",
            "int f(void) __attribute__((analyzer_noreturn));", "__attribute__((__suppress__)) int f(void);",
        )),
    ],
)  # fmt: skip
def test_hostile_text_is_refused_before_anything_starts(source: str, why: str) -> None:
    began = time.monotonic()
    assert code.value(source) == (None, why) and why in code.REASONS
    assert time.monotonic() - began < 2


@real
@pytest.mark.parametrize(
    "source",
    [
        "%:include <stdlib.h>\n" + "int f(void) <% return 0; %>",
        "??=include <stdlib.h>\nint f(void) ??< return 0; ??>",
        "#inc\\\nlude <stdlib.h> // why\r\nint f(void) { return 0; }\r\n",
        "#\n  # /* a */ include /* b */ <sys/types.h>\nint f(void) { return 0; }",
        "#ifndef N\n#define N 3\n#elif N\n#else\n#undef N\n#endif\n#if N > 2\nint f(void) { return N; }\n#endif",
        "int f(void) { int a[2] = {0}; return a[0]; } // #include </etc/passwd> \n/*\n#include </etc/passwd>\n*/",
        "#define S(x) #x\nconst char *f(void) { return S(a); }",
        "int suppress(int x) { return x; }",
        "".join(f"#include <{name}>\n" for name in sorted(code.HEADERS)) + "int f(void) { return 0; }",
    ],
)
def test_plain_text_in_an_odd_dress_is_not(source: str) -> None:
    assert code.value(source) == (0.0, "")


@real
@pytest.mark.parametrize(
    "source",
    [
        "int f(void) { return " + "(" * 10_000 + "1" + ")" * 10_000 + "; }",
        "int f(void) " + "{" * 10_000 + "}" * 10_000,
        "int f(int x) { " + "if (x) " * 8000 + ";return 0; }",
        "int f(int x) { return " + "!" * 40_000 + "x; }",
        "#define M0 1 + 1\n" + "".join(f"#define M{i} M{i - 1} + M{i - 1}\n" for i in range(1, 60)) + "int f(void) { return M59; }",
        "int a[1 << 28] = {[0 ... (1 << 28) - 1] = 1};",
        "\"" * 60_000,
        "/*" * 30_000,
    ],
    ids=["parentheses", "blocks", "ifs", "nots", "macro bomb", "array", "quotes", "comments"],
)  # fmt: skip
def test_a_bomb_ends_by_the_limits_with_a_reason(source: str) -> None:
    began = time.monotonic()
    value, why = code.value(source)
    assert value is None and why in code.REASONS and not why.startswith("refused")
    assert time.monotonic() - began < 30


@real
def test_time_and_memory_are_limited() -> None:
    paths = (
        "int f(int *a) { int x = 0;" + "".join(f"if (a[{i}]) x += a[{i}] * x;" for i in range(1000)) + "return 1 / x; }"
    )
    began = time.monotonic()
    assert code.analyse(paths, seconds=0.3).why == "took too long"
    assert time.monotonic() - began < 5
    assert code.analyse(START + SOUND, megabytes=150) == code.Analysed(True)
    assert code.analyse(START + SOUND, megabytes=64).why in ("too much memory", "the analyser failed")


@real
def test_nothing_is_run_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made = tmp_path / "made"
    hold = f'FILE *o = fopen("{made}", "w"); if (o) fclose(o);'
    source = (
        HEAD
        + f"__attribute__((constructor)) static void a(void) {{ {hold} }}\nint main(void) {{ {hold} for (;;) ; }}\n"
    )
    assert code.value(source) == (0.0, "")
    assert code.value(source + "int g(") == (None, "does not compile")
    assert not list(tmp_path.iterdir())


def test_what_outlives_its_time_is_ended_with_all_its_children(tmp_path: Path) -> None:
    late = tmp_path / "late"
    began = time.monotonic()
    assert code._run(["/bin/sh", "-c", f"(sleep 1.5; touch {late}) & wait"], tmp_path, 0.3, 512) == (None, "")
    assert time.monotonic() - began < 1.4
    time.sleep(1.6)
    assert not late.exists()


def test_a_process_has_limits_and_a_bare_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "told")
    exit_code, said = code._run(["/bin/sh", "-c", "ulimit -v; ulimit -t; ulimit -c; env"], tmp_path, 9.5, 300)
    assert exit_code == 0 and said.split()[:3] == [str(300 * 1024), "10", "0"]
    assert "A_SECRET" not in said and str(Path.home()) not in said.replace(str(tmp_path), "")
    exit_code, said = code._run(["/bin/sh", "-c", "yes"], tmp_path, 9.5, 300)
    assert exit_code != 0 and len(said) <= 8 << 20


# what a model says ----------------------------------------------------------------------------------------------------

BODY = "\n    return s[0] == '}';\n}\n"


@pytest.mark.parametrize(
    "text",
    [
        BODY,
        BODY + "\nint main(void)\n{\n    return f(0);\n}\n",
        BODY + "```\nThis function looks at the first character.",
        BODY + "\n\nI hope that helps! {",
        "```c" + BODY + "```",
        "```" + BODY + "```\nIt's done.",
        "~~~C" + BODY,
        "Here's the rest:\n\n```c" + BODY + "```\n\nIt {returns}.",
        "Here's the rest:\n```" + BODY + "```",
        "```c\n" + START + BODY + "```",
        "```c\n" + START.replace("\n{", " {") + BODY + "\nint main(void) { return 0; }\n```",
        "```c\nint f(const char *s)\n{" + BODY + "```",
        "int f(const char *s) {" + BODY + "int main(void) { return 0; }",
        START + BODY,
    ],
)
def test_an_answer_is_cut_to_what_it_adds_to_the_start(text: str) -> None:
    assert code.extract(text, START) == START + BODY


@pytest.mark.parametrize(
    "body",
    [
        '\n    puts("}");\n}\n',
        "\n    /* } ``` */\n    return '}'; // }\n}\n",
        "\n    if (s) { return 1; } else { return 2; }\n}\n",
        "\n    puts(\"\\\"}\");\n    return '\\'' + '\"';\n}\n",
        "\n#define OPEN {\n    return 1;\n}\n",
        "\n    // goes on \\\n    }\n    return 1;\n}\n",
        "\n    <% return 1; %>\n}\n",
        "\n    { return 1; }\n}\n",
    ],
)
def test_the_brace_that_ends_it_is_the_one_that_closes_the_start(body: str) -> None:
    assert code.extract(body + "\nvoid g(void) {}\n", START) == START + body


def test_an_answer_that_goes_on_in_a_line_is_not_broken() -> None:
    assert code.extract(" return 1; } int g;", "int f(void) {") == "int f(void) { return 1; }\n"
    assert code.extract("1; }", "int f(void) { return ") == "int f(void) { return 1; }\n"


def test_two_open_blocks_are_closed_and_none_means_the_next() -> None:
    assert code.extract("\n} }\nrest }", "void f(int x) { while (x) {") == "void f(int x) { while (x) {\n} }\n"
    assert code.extract("\nint f(void)\n{ return 1; }\nrest", "#include <stdio.h>") == (
        "#include <stdio.h>\nint f(void)\n{ return 1; }\n"
    )


@pytest.mark.parametrize("text", ["", "\n    return 1;", "\n    return 1;\n```\nand so on"])
def test_an_unfinished_answer_does_not_compile(text: str) -> None:
    assert code.extract(text, START) == START + text.partition("\n```")[0] + "\n"


@pytest.mark.parametrize(
    "text", ["```" * 20_000, "/*" * 100_000, "{" * 100_000, '"' * 100_000, "#" * 100_000, "\ud800\x00"]
)
def test_any_text_gives_some_source_soon(text: str) -> None:
    began = time.monotonic()
    assert code.extract(text, START).startswith(START)
    assert time.monotonic() - began < 2


@real
@pytest.mark.parametrize(("body", "expected"), [(LEAK, 1.0), (SOUND, 0.0), (AFTER, 1.0)])
def test_an_extracted_answer_has_a_value(body: str, expected: float) -> None:
    text = f"Here is the function:\n```c\n{START}{body}```\nIt frees what it takes."
    assert code.value(code.extract(text, START)) == (expected, "")
