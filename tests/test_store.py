"""The store: whole or not there, whatever is killed, cut off, changed or done twice."""

import fcntl
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import selfaware
from selfaware import store
from selfaware.errors import BadData, BadFile
from selfaware.store import (
    Cell,
    Store,
    append_lines,
    checksum,
    read_json,
    read_lines,
    replacing,
    write_json,
    write_text,
)

ENV = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def started(code: str, *args: object) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code, *map(str, args)], env=ENV, stdout=subprocess.PIPE, text=True)


def waited(what: Any, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


@pytest.fixture
def cell(tmp_path: Path) -> Cell:
    """A finished cell of two files."""
    made = Store(tmp_path).cell("c0ffee")
    write_json(made.path("spec.json"), {"a": 1})
    append_lines(made.path("answers.jsonl"), [{"id": "q1"}, {"id": "q2"}])
    made.finish()
    return made


# atomic writes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blow", [ValueError("half way"), KeyboardInterrupt()])
def test_an_exception_in_the_middle_leaves_the_old_file_and_nothing_else(tmp_path: Path, blow: BaseException) -> None:
    path = tmp_path / "a.json"
    write_text(path, "old")

    def half() -> None:
        with replacing(path) as temporary:
            temporary.write_text("ne")
            raise blow

    with pytest.raises(type(blow)):
        half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_value_that_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(BadData):
        write_json(path, {"a": float("nan")})
    assert read_json(path) == {"a": 1}


def test_nobody_ever_sees_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, ["x" * 200_000])

    def write() -> None:
        for c in "abcdefgh" * 5:
            write_json(path, [c * 200_000])

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        assert len(set(read_json(path)[0])) == 1
    writer.join()
    assert list(tmp_path.iterdir()) == [path]


def test_the_rest_of_a_killed_writer_is_not_appended_to(tmp_path: Path) -> None:
    """Process numbers come again, in a container at once; a writer that appends must start from nothing."""
    path = tmp_path / "questions.jsonl"
    with replacing(path) as temporary:
        append_lines(temporary, [{"n": 0}])
        stale = temporary
    stale.write_text('{"n":99}\n')
    with replacing(path) as temporary:
        assert temporary == stale
        append_lines(temporary, [{"n": 1}])
    assert read_lines(path) == [{"n": 1}]


def test_two_threads_do_not_share_a_temporary_file(tmp_path: Path) -> None:
    names: list[Path] = []

    def note() -> None:
        with replacing(tmp_path / "a") as temporary:
            names.append(temporary)
            temporary.write_text("b")

    with replacing(tmp_path / "a") as temporary:
        temporary.write_text("a")
        other = threading.Thread(target=note)
        other.start()
        other.join()
    assert names != [temporary]
    assert (tmp_path / "a").read_text() == "a"


def test_written_json_is_read_as_it_was(tmp_path: Path) -> None:
    value = {"text": "„ü“ 🎲 \u2028 \r\n", "numbers": [1, 0.1, None, True]}
    write_json(tmp_path / "deep" / "er" / "a.json", value)
    assert read_json(tmp_path / "deep" / "er" / "a.json") == value


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe", b'{"a": NaN}', b"[Infinity]"])
def test_what_is_not_json_is_named_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(BadFile, match=r"a\.json: .*; JSON is needed\. Delete it and run again\."):
        read_json(tmp_path / "a.json")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"nowhere\.json"):
        read_json(tmp_path / "nowhere.json")


# lines ----------------------------------------------------------------------------------------------------------------


def test_lines_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.jsonl"
    assert read_lines(path) == []
    append_lines(path, [{"n": 1}, {"text": "„ü“ 🎲 \u2028\u0085 a\nb\r"}])
    append_lines(path, iter([{"n": 3}]))
    append_lines(path, [])
    assert read_lines(path) == [{"n": 1}, {"text": "„ü“ 🎲 \u2028\u0085 a\nb\r"}, {"n": 3}]


def test_no_lines_make_an_empty_file(tmp_path: Path) -> None:
    append_lines(tmp_path / "a.jsonl", [])
    assert (tmp_path / "a.jsonl").read_bytes() == b""
    assert read_lines(tmp_path / "a.jsonl") == []


def test_a_last_line_cut_off_anywhere_is_dropped_and_written_over(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    append_lines(path, [{"n": 1}, {"n": 2, "text": "„ü🎲"}])
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        had = [{"n": 1}] if cut >= first else []
        assert read_lines(path) == had, whole[:cut]
        append_lines(path, [{"n": 3}])
        assert read_lines(path) == [*had, {"n": 3}], whole[:cut]


def test_a_long_cut_off_line_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    append_lines(path, [{"n": 1}])
    with open(path, "ab") as file:
        file.write(b'{"text":"' + b"x" * 200_000)
    append_lines(path, [{"n": 2}])
    assert read_lines(path) == [{"n": 1}, {"n": 2}]


@pytest.mark.parametrize("broken", [b"{", b"", b"3", b"[1]", b"\xff", b'{"a":NaN}', b'{"n":1}{"n":2}'])
def test_a_broken_line_in_the_middle_is_named(tmp_path: Path, broken: bytes) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"n":1}\n' + broken + b'\n{"n":3}\n')
    with pytest.raises(
        BadFile, match=r"a\.jsonl:2: .*; one JSON object a line is needed\. Delete .*a\.jsonl and run again\."
    ):
        read_lines(tmp_path / "a.jsonl")


def test_a_line_is_in_the_file_as_soon_as_it_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"

    def slowly() -> Iterator[dict[str, int]]:
        for n in range(3):
            assert len(read_lines(path)) == n
            yield {"n": n}

    append_lines(path, slowly())


def test_a_run_that_is_killed_while_it_appends_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    code = (
        "import itertools, pathlib, sys; from selfaware.store import append_lines, read_lines; "
        "path = pathlib.Path(sys.argv[1]); "
        "append_lines(path, ({'n': n, 'text': 'ü🎲' * 3000} for n in itertools.count(len(read_lines(path)))))"
    )
    for _ in range(3):
        before = path.stat().st_size if path.is_file() else 0
        process = started(code, path)
        waited(lambda before=before: path.is_file() and path.stat().st_size > before + 300_000)
        process.kill()
        process.communicate()
        assert process.returncode == -9
        rows = read_lines(path)
        assert [row["n"] for row in rows] == list(range(len(rows)))
        path.write_bytes(path.read_bytes()[:-7])  # as if the kill had cut a line, inside a character too
    append_lines(path, [{"n": len(read_lines(path))}])
    assert [row["n"] for row in read_lines(path)] == list(range(len(read_lines(path))))


# whole cells ----------------------------------------------------------------------------------------------------------


def test_nothing_is_made_until_it_is_written(tmp_path: Path) -> None:
    made = Store(tmp_path / "runs").cell("abc")
    assert (made.id, made.whole(), (tmp_path / "runs").exists()) == ("abc", False, False)


def test_a_cell_without_its_last_file_is_not_whole(cell: Cell) -> None:
    assert cell.whole()
    cell.path(store.DONE).unlink()
    assert not cell.whole()


def test_done_names_every_file_with_its_checksum(cell: Cell) -> None:
    cell.path(".lock").touch()
    cell.path("figures").mkdir()
    cell.finish()
    assert read_json(cell.path("done.json"))["files"] == {
        name: hashlib.sha256(cell.path(name).read_bytes()).hexdigest() for name in ("answers.jsonl", "spec.json")
    }


@pytest.mark.parametrize(
    "spoil", [lambda p: p.write_bytes(p.read_bytes() + b"\n"), Path.unlink, lambda p: p.write_bytes(b"")]
)
def test_a_changed_or_missing_file_is_named_with_what_to_delete(cell: Cell, spoil: Any) -> None:
    spoil(cell.path("answers.jsonl"))
    with pytest.raises(BadFile) as caught:
        cell.whole()
    text = str(caught.value)
    assert text.startswith(f"{cell.path('answers.jsonl')}: ")
    assert text.endswith(f"…, as written, is needed. Delete {cell.folder} and run again.")
    store.clear(cell)
    assert not cell.whole()
    assert not cell.folder.exists()


@pytest.mark.parametrize("done", ["", "{", "[]", "{}", '{"files": []}', '{"files": null}', "3", "null"])
def test_a_broken_last_file_is_named_with_what_to_delete(cell: Cell, done: str) -> None:
    cell.path("done.json").write_text(done)
    with pytest.raises(
        BadFile, match=rf"done\.json: .*; a list of files is needed\. Delete {cell.folder} and run again\."
    ):
        cell.whole()


def test_finishing_twice_is_finishing_once(cell: Cell) -> None:
    before = cell.path("done.json").read_bytes()
    cell.finish()
    assert cell.path("done.json").read_bytes() == before
    assert cell.whole()


def test_finishing_again_takes_in_what_came_later(cell: Cell) -> None:
    append_lines(cell.path("scores.jsonl"), [{"value": 1.0}])
    assert cell.whole()
    cell.finish()
    assert cell.whole()
    cell.path("scores.jsonl").unlink()
    with pytest.raises(BadFile, match="it is missing"):
        cell.whole()


def test_checksum_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert checksum(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_an_experiment_has_its_own_folder(tmp_path: Path) -> None:
    assert Store(tmp_path).experiment("first-look") == tmp_path / "first-look"
    assert (tmp_path / "first-look").is_dir()
    Store(tmp_path).experiment("first-look")


# locks ----------------------------------------------------------------------------------------------------------------

COUNTING = """
import pathlib, sys, time
from selfaware.store import Cell
cell = Cell(pathlib.Path(sys.argv[1]))
for _ in range(30):
    with cell.locked():
        count = int(cell.path("count").read_text()) if cell.path("count").exists() else 0
        time.sleep(0.002)
        cell.path("count").write_text(str(count + 1))
"""


def test_two_processes_take_turns(tmp_path: Path) -> None:
    counting = [started(COUNTING, tmp_path / "cell") for _ in range(2)]
    assert [p.wait(60) for p in counting] == [0, 0]
    for p in counting:
        p.communicate()
    assert (tmp_path / "cell" / "count").read_text() == "60"


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys, time; from selfaware.store import Cell\n"
        "with Cell(pathlib.Path(sys.argv[1])).locked(): print('held', flush=True); time.sleep(60)"
    )
    holder = started(code, tmp_path / "cell")
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    assert not free(tmp_path / "cell")
    holder.kill()
    holder.communicate()
    with Cell(tmp_path / "cell").locked():
        assert not free(tmp_path / "cell")
    assert free(tmp_path / "cell")


def test_the_lock_is_let_go_after_an_exception(tmp_path: Path) -> None:
    made = Cell(tmp_path / "cell")
    with pytest.raises(ValueError, match="inside"), made.locked():
        raise ValueError("inside")
    assert free(made.folder)


def test_clearing_a_locked_cell_does_not_let_two_in(tmp_path: Path) -> None:
    """Who waited for a lock file that was removed must wait for the new one too."""
    made = Cell(tmp_path / "cell")
    inside, leave = threading.Event(), threading.Event()

    def second() -> None:
        with made.locked():
            inside.set()
            leave.wait(20)

    with made.locked():
        waiting = threading.Thread(target=second)
        waiting.start()
        time.sleep(0.1)
        assert not inside.is_set()
        store.clear(made)
    assert inside.wait(20)
    assert not free(made.folder)
    leave.set()
    waiting.join()
    assert free(made.folder)


def free(folder: Path) -> bool:
    """Whether anybody else could take the lock now."""
    with open(folder / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


# where it was made ----------------------------------------------------------------------------------------------------


def test_environment_can_be_written_and_says_what_ran(tmp_path: Path) -> None:
    made = store.environment("cpu")
    write_json(tmp_path / "env.json", made)
    assert read_json(tmp_path / "env.json") == made
    assert made["selfaware"] == selfaware.__version__
    assert made["device"] == "cpu"
    assert made["cores"] >= 1
    assert 0.01 < made["peak_gib"] < 1000
    assert all(made[name] for name in ("torch", "transformers", "numpy", "python", "machine", "system"))


def test_commit_of_every_kind_of_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "__file__", str(tmp_path / "selfaware" / "store.py"))
    git, sha, other = tmp_path / ".git", "0123456789abcdef" * 2, "f" * 32
    assert store.commit() == ""
    git.mkdir()
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    assert store.commit() == ""  # no commit yet
    (git / "packed-refs").write_text(f"# pack-refs with: peeled\n{other} refs/heads/not-main\n{sha} refs/heads/main\n")
    assert store.commit() == sha[:12]
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "refs" / "heads" / "main").write_text(other + "\n")
    assert store.commit() == other[:12]
    (git / "HEAD").write_text(sha + "\n")
    assert store.commit() == sha[:12]


def test_stored_json_is_text_for_people(cell: Cell) -> None:
    assert cell.path("spec.json").read_text() == '{\n "a": 1\n}\n'
    assert json.loads(cell.path("done.json").read_text())["files"].keys() == {"spec.json", "answers.jsonl"}
