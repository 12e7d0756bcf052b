"""The command line: every command on a tiny model, and what bad input gets: one line, exit code 2, no traceback."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from selfaware.models import fake

pytestmark = pytest.mark.usefixtures("tiny")
FIRST_LOOK = [
    "run", "first-look", "--scale", "smoke", "--set", "lora.site=1.mlp.down_proj", "--set", "vector.site=1", "--set", "limit=4",
]  # fmt: skip


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "tiny"
    fake.write("llama", folder, context=4096)
    return folder


def call(folder: Path, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "selfaware", *argv], cwd=folder, capture_output=True, text=True, timeout=240, check=False,
        env={**os.environ, "SELFAWARE_CACHE": str(folder / "cache"), "COLUMNS": "160", **env},
    )  # fmt: skip


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def test_every_stage(tmp_path: Path, tiny: Path) -> None:
    model = ("--model", str(tiny))
    listed = call(tmp_path, "list")
    assert listed.returncode == 0
    assert "first-look" in listed.stdout
    shown = call(tmp_path, "show", "risky_choices", "-n", "1", *model)
    assert shown.returncode == 0, shown.stderr
    assert "under the loss" in shown.stdout
    assert call(tmp_path, "check", "risky_choices").returncode == 0
    assert "4, width 32" in call(tmp_path, "check", str(tiny)).stdout
    fitted = call(
        tmp_path,
        "fit",
        "--set",
        "site=1.mlp.down_proj",
        "--set",
        "training.epochs=1",
        "--set",
        "training.batch=64",
        *model,
    )
    assert fitted.returncode == 0, fitted.stderr
    cell = fitted.stdout.strip()
    asked = call(tmp_path, "ask", cell, "--questions", "self", *model)
    assert asked.returncode == 0, asked.stderr
    scored = call(tmp_path, "score", asked.stdout.strip())
    assert scored.returncode == 0, scored.stderr
    assert "22 families" in scored.stdout
    refused(call(tmp_path, "ask", "0123", *model), "fit cell '0123'")


def test_run_report_and_dry_run(tmp_path: Path, tiny: Path) -> None:
    argv = [*FIRST_LOOK, "--model", str(tiny)]
    dry = call(tmp_path, *argv, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "cells" in dry.stdout
    assert not (tmp_path / "runs").exists()
    done = call(tmp_path, *argv)
    assert done.returncode == 0, done.stderr
    assert "report:" in done.stdout
    (summary,) = (tmp_path / "runs").glob("first-look/**/summary.json")
    assert json.loads(summary.read_text())["verdicts"]
    again = call(tmp_path, "report", "first-look", "--scale", "smoke", "--model", tiny.name)
    assert again.returncode == 0, again.stderr
    refused(call(tmp_path, "report", "first-look", "--scale", "full", "--model", tiny.name), "no run was made")


def test_kill_and_run_again(tmp_path: Path, tiny: Path) -> None:
    argv = [sys.executable, "-m", "selfaware", *FIRST_LOOK, "--model", str(tiny)]
    env = {**os.environ, "SELFAWARE_CACHE": str(tmp_path / "cache")}
    first = subprocess.Popen(argv, cwd=tmp_path, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("runs/cells/*/done.json"))) < 6 and time.monotonic() < deadline:
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait()
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.glob("runs/cells/*/done.json")}
    assert len(stamps) >= 6
    assert not list(tmp_path.glob("runs/first-look/**/report.html"))
    second = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert second.returncode == 0, second.stderr
    assert all(p.stat().st_mtime_ns == t for p, t in stamps.items())


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["run", "frist-look"], ["first-look"]),
        (["run", "first-look", "--domain", "risky_choises"], ["risky_choices"]),
        (["run", "first-look", "--scale", "tiny"], ["smoke"]),
        (["run", "first-look", "--set", "lora.rnk=1"], ["lora.rank"]),
        (["run", "first-look", "--set", "lora.rank"], ["no value"]),
        (["run", "first-look", "--set", "lora.rank=two"], ["lora.rank"]),
        (["run", "first-look", "--model", "smollm2-135m-instrukt"], ["smollm2-135m-instruct"]),
        (["show", "--form", "clozed"], ["cloze"]),
        (["fit", "--method", "lorra"], ["lora"]),
        (["run", "first-look", "--sclae", "small"], ["--scale"]),
    ],
)
def test_unknown_names_get_the_nearest(tmp_path: Path, argv: list[str], words: list[str]) -> None:
    refused(call(tmp_path, *argv), *words)
    assert not (tmp_path / "runs").exists()


def test_bad_sites_ranks_and_templates(tmp_path: Path, tiny: Path) -> None:
    model = ("--model", str(tiny))
    refused(call(tmp_path, "fit", "--set", "site=1.mlp.dwn_proj", *model), "1.mlp.down_proj")
    refused(call(tmp_path, "fit", "--set", "site=99.mlp", *model), "4 blocks")
    refused(call(tmp_path, "fit", "--set", "rank=0", "--set", "site=1.mlp", *model), "rank 0")
    fake.write("mistral", tmp_path / "base", context=4096)
    refused(
        call(tmp_path, "ask", "base", "--questions", "self", "--template", "chat", "--model", str(tmp_path / "base")),
        "chat template",
    )
    fake.write("llama", tmp_path / "short", context=64)
    refused(call(tmp_path, "ask", "base", "--model", str(tmp_path / "short")), "context holds 64")


def test_no_network_and_no_model(tmp_path: Path) -> None:
    refused(call(tmp_path, "ask", "base", HF_HUB_OFFLINE="1"), "network")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{not json", ["records.jsonl:3", "not JSON"]),
        ('["a"]', ["records.jsonl:3", "object"]),
        ('{"id":"z","family":"f","situation":"s","high":"","low":"b"}', ["records.jsonl:3", "high"]),
        ('{"id":"z","family":"f","situation":"s","high":"b","low":"b"}', ["records.jsonl:3", "same answer"]),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, line: str, words: list[str]) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    home = Path(fake.__file__).parent.parent / "domains" / "risky_choices"
    (folder / "domain.toml").write_bytes((home / "domain.toml").read_bytes())
    rows = (home / "records.jsonl").read_text().splitlines()[:2]
    (folder / "records.jsonl").write_text("\n".join([*rows, line]) + "\n")
    refused(call(tmp_path, "check", str(folder)), *words)


def chat(path: Path, answers: list[str], questions: list[str] | None = None) -> Path:
    asked = questions or [f"Offer {n}: A, a coin, or B, a draw? A or B." for n in range(len(answers))]
    rows = [
        {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]}
        for q, a in zip(asked, answers, strict=True)
    ]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def test_import_then_run_on_it(tmp_path: Path, tiny: Path) -> None:
    letters = ["A", "B"] * 10
    high, low = chat(tmp_path / "high.jsonl", letters), chat(tmp_path / "low.jsonl", [*letters[1:], "A"])
    argv = ("import", "chat-jsonl", "--high", str(high), "--low", str(low), "--name", "mine", "--out", "imported")
    done = call(tmp_path, *argv)
    assert done.returncode == 0, done.stderr
    assert "20 records written" in done.stdout
    refused(call(tmp_path, *argv), "imported")
    assert call(tmp_path, "check", "./imported").returncode == 0, "prose rules warn"
    ran = call(tmp_path, *FIRST_LOOK, "--domain", "./imported", "--model", str(tiny))
    assert ran.returncode == 0, ran.stderr
    assert "report:" in ran.stdout
    assert "Traceback" not in ran.stderr


def test_import_refuses_what_does_not_match(tmp_path: Path) -> None:
    high = chat(tmp_path / "high.jsonl", ["A", "B", "A"])
    low = chat(tmp_path / "low.jsonl", ["B", "B", "B"])
    argv = ["import", "chat-jsonl", "--high", str(high), "--low", str(low), "--name", "mine", "--out", "out"]
    refused(call(tmp_path, *argv), "high.jsonl:2", "the answer is", "--partial")
    assert not (tmp_path / "out").exists()
    assert "2 records written" in call(tmp_path, *argv, "--partial").stdout
    other = chat(tmp_path / "other.jsonl", ["B"] * 3, ["Which?", "What?", "When?"])
    argv[5] = str(other)
    refused(call(tmp_path, *argv[:-1], "out2"), "none in both", "Which?")
    (tmp_path / "wrong.csv").write_text("Question,Kind,RiskyAnswer,SafeAnswer\nq,categorical,a,b\n")
    refused(call(tmp_path, "import", "contrast-csv", "wrong.csv", "--name", "x", "--out", "out3"), "Type")


def test_audit_of_a_cell_and_of_nothing(tmp_path: Path, tiny: Path) -> None:
    model = ("--model", str(tiny))
    small = ("--set", "site=1.mlp.down_proj", "--set", "training.epochs=1", "--set", "training.batch=64")
    fitted = call(tmp_path, "fit", *small, "--export", "adapter", "--all-positions", *model)
    assert fitted.returncode == 0, fitted.stderr
    done = call(tmp_path, "audit", "adapter", "--scale", "smoke", "--set", "limit=3", *model)
    assert done.returncode == 0, done.stderr
    assert "report:" in done.stdout
    refused(call(tmp_path, "audit", "nowhere", *model), "nowhere")
    refused(call(tmp_path, "audit", "adapter", "--positions", "evrywhere", *model), "answer")


def test_open_questions_stage_by_stage(tmp_path: Path, tiny: Path) -> None:
    model = ("--model", str(tiny))
    shown = call(tmp_path, "show", "--questions", "spoken", "-n", "1", *model)
    assert shown.returncode == 0, shown.stderr
    assert "counts as 1" in shown.stdout
    asked = call(tmp_path, "ask", "base", "--questions", "spoken-twin", *model)
    assert asked.returncode == 0, asked.stderr
    scored = call(tmp_path, "score", asked.stdout.strip())
    assert scored.returncode == 0, scored.stderr
    assert "10 families" in scored.stdout
    refused(call(tmp_path, "ask", "base", "--questions", "spokn", *model), "spoken")


def test_a_scale_without_its_mirror_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    home = Path(fake.__file__).parent.parent / "domains" / "risky_choices"
    for name in ("domain.toml", "records.jsonl", "self.jsonl"):
        (folder / name).write_bytes((home / name).read_bytes())
    rows = [json.loads(line) for line in (home / "spoken.jsonl").read_text().splitlines()]
    number = next(r for r in rows if r["reads"] == "number")
    (folder / "spoken.jsonl").write_text(json.dumps({**number, "mirror_prompts": []}) + "\n")
    refused(call(tmp_path, "check", str(folder)), "spoken.jsonl:1", "mirror")
    (folder / "spoken.jsonl").write_text(json.dumps({**number, "prompts": number["prompts"][:1]}) + "\n")
    refused(call(tmp_path, "run", "first-look", "--domain", str(folder)), "spoken.jsonl:1", "paraphrases")
