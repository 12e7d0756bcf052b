"""A contender's process: started once, told what to do in JSON lines, run again and again. Knows pipes, no library in it."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from selfaware.bench.runs import Run
from selfaware.bench.works import Contender
from selfaware.errors import SelfawareError


class Absent(SelfawareError):
    """A contender that is not installed or does not run here; the message is what its row says."""


@dataclass(frozen=True)
class Places:
    """Where contenders are: the folder of their scripts, the folder of their environments."""

    scripts: Path
    environments: Path

    def interpreter(self, contender: Contender) -> Path:
        """The Python that runs it.

        Raises:
            Absent: there is no such script or environment.
        """
        if not (self.scripts / contender.script).is_file():
            raise Absent(
                f"no {contender.script} in {self.scripts.name}: a checkout has it; name its folder by --contenders"
            )
        if not contender.environment:
            return Path(sys.executable)
        found = self.environments / contender.environment / "bin" / "python"
        if not found.is_file():
            raise Absent(f"not installed: sh benchmarks/setup.sh {contender.environment}")
        return found


class Process:
    """A running contender; `versions` is what it is made of."""

    def __init__(self, process: "subprocess.Popen[str]", log: IO[str]) -> None:
        self._process, self._log = process, log
        self.versions: Mapping[str, str] = {}

    def tell(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to one job.

        Raises:
            Absent: it ended, or said that it can't.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._log.seek(0)
            said = [text.strip() for text in self._log.read().splitlines() if text.strip()]
            raise Absent(f"does not run: {said[-1][:300] if said else 'it ended without a word'}")
        answer: dict[str, Any] = json.loads(line)
        if "why" in answer:
            raise Absent(f"does not run: {answer['why']}")
        return answer

    def run(self) -> Run:
        """One run of what was loaded."""
        answer = self.tell({"do": "run"})
        return Run(float(answer["seconds"]), tuple(answer["marks"]), tuple(answer["numbers"]))


@contextmanager
def running(contender: Contender, places: Places, job: Mapping[str, Any]) -> Iterator[Process]:
    """Within the context the contender runs with the job loaded; gone afterwards.

    Raises:
        Absent: it is not installed, or can't load the job.
    """
    python = places.interpreter(contender)
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [str(python), str(places.scripts / contender.script)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
        try:
            made = Process(process, log)
            asked = {"head": contender.head, "attention": contender.attention}
            made.versions = made.tell({"do": "load", **job, **asked})["versions"]
            yield made
        finally:
            for pipe in (process.stdin, process.stdout):
                with suppress(BrokenPipeError):
                    if pipe is not None:
                        pipe.close()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
