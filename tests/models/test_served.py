"""A server's model as a player, asked over real HTTP: what is sent, tried again, counted, refused, and never said aloud."""

import copy
import importlib.util
import json
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from selfaware.errors import BadData, BadModel, CapReached, NoNetwork, SelfawareError
from selfaware.games import Rules, Scripted, play
from selfaware.models.served import Served
from selfaware.types import Turn

HAS_CLIENT = importlib.util.find_spec("openai") is not None
client = pytest.mark.skipif(not HAS_CLIENT, reason="the package openai is not installed")

LATE = object()
KEY = "sk-secret-0123456789"
HELLO = [Turn("system", "Be brief."), Turn("user", "Hello."), Turn("user", "Well?")]


def said(text: str | None = "Hi.", read: int = 7, written: int = 3, **more: Any) -> dict[str, Any]:
    usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [choice],
        "usage": usage,
    } | more


@dataclass
class Server:
    """Answers with what it is told to, the last for ever; keeps what it was asked."""

    url: str = ""
    answers: list[tuple[int, Any]] = field(default_factory=lambda: [(200, said())])
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-environment")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-the-environment")
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            state.asked.append(json.loads(body) | {"path": self.path})
            state.headers.append({k.lower(): v for k, v in self.headers.items()})
            status, answer = state.answers[0] if len(state.answers) == 1 else state.answers.pop(0)
            if answer is LATE:
                time.sleep(0.4)
                return
            sent = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "text/html" if sent.startswith(b"<") else "application/json")
            self.send_header("content-length", str(len(sent)))
            self.send_header("retry-after-ms", "1")
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *_: object) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{running.server_port}/v1"
    yield state
    running.shutdown()
    thread.join()
    running.server_close()


def player(server: Server, **more: Any) -> Served:
    return Served(server.url, "tiny", KEY, **{"retries": 2, "seconds": 5, **more})


def fails(with_: type[SelfawareError], of: Served) -> str:
    """The message, once nothing that can be read of the error holds the key."""
    with pytest.raises(with_) as caught:
        of.reply(HELLO, 1)
    error = caught.value
    assert type(error) is with_
    shown = "".join(traceback.format_exception(error))
    assert KEY not in f"{shown}{error!r}{error.args}{of!r}{of}{error.__context__!r}{error.__cause__!r}"
    assert error.__context__ is None
    return str(error)


@client
def test_what_is_sent_and_what_comes_back(server: Server) -> None:
    served = player(server, max_new_tokens=11, temperature=0.5)
    assert served.reply(HELLO, 42) == "Hi."
    [asked], [headers] = server.asked, server.headers
    assert asked == {
        "path": "/v1/chat/completions", "model": "tiny", "temperature": 0.5, "seed": 42, "max_tokens": 11,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello.\n\nWell?"}],
    }  # fmt: skip
    assert headers["authorization"] == f"Bearer {KEY}"
    assert "openai-organization" not in headers
    assert served.name == "tiny"


@client
def test_without_a_key_none_is_taken_from_the_environment(server: Server) -> None:
    Served(server.url, "tiny", limit="max_completion_tokens").reply(HELLO, 0)
    assert server.headers[0]["authorization"] == "Bearer none"
    assert server.asked[0]["max_completion_tokens"] == 256
    assert "max_tokens" not in server.asked[0]


@client
@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_passes_is_tried_again(server: Server, status: int) -> None:
    server.answers = [(status, {"error": {"message": "busy"}}), (status, b""), (200, said("At last."))]
    served = player(server)
    assert served.reply(HELLO, 0) == "At last."
    assert len(server.asked) == 3
    assert served.tokens == 10


@client
@pytest.mark.parametrize("status", [429, 500])
def test_what_stays_is_given_up(server: Server, status: int) -> None:
    server.answers = [(status, {"error": {"message": f"busy, {KEY}"}})]
    text = fails(NoNetwork, player(server))
    assert f"tiny at {server.url}: still Error code: {status}" in text
    assert "after 3 tries" in text
    assert len(server.asked) == 3


@client
@pytest.mark.parametrize("status", [400, 401, 404])
def test_a_refusal_is_not_tried_again(server: Server, status: int) -> None:
    server.answers = [(status, {"error": {"message": f"Incorrect API key provided: {KEY}." + " x" * 500}})]
    text = fails(BadModel, player(server))
    assert "Incorrect API key provided: …" in text
    assert text.endswith("Check model, key and settings.")
    assert len(text) < 400
    assert len(server.asked) == 1


@client
@pytest.mark.parametrize(
    "answer",
    [
        b"", b"{", b"[]", b"null", b'"hello"', b"<html>hello</html>", b"\xff\xfe", {}, {"choices": None}, {"choices": []},
        {"choices": [{}]}, {"choices": [{"message": None}]}, {"choices": [{"message": "hello"}]}, said(None),
        said(["hello"]), {"choices": {"0": 1}}, {"error": f"no, {KEY}"},
    ],
)  # fmt: skip
def test_what_is_no_completion_is_said_to_be_none(server: Server, answer: Any) -> None:
    server.answers = [(200, answer)]
    text = fails(BadData, player(server))
    assert "a chat completion is needed" in text


@client
def test_an_empty_reply_is_a_reply(server: Server) -> None:
    server.answers = [(200, said(""))]
    assert player(server).reply(HELLO, 0) == ""


@client
def test_tokens_are_capped(server: Server) -> None:
    served = player(server, most_tokens=20)
    assert [served.reply(HELLO, n) for n in range(2)] == ["Hi.", "Hi."]
    assert (served.read, served.written, served.tokens, served.cost) == (14, 6, 20, None)
    text = fails(CapReached, served)
    assert text == "tiny: 20 tokens used; at most 20 may be. Raise most_tokens to go on."
    assert len(server.asked) == 2


@client
def test_cost_is_capped(server: Server) -> None:
    server.answers = [(200, said(read=1000, written=100))]
    served = player(server, price=(2.0, 10.0), most_cost=0.005)
    served.reply(HELLO, 0)
    assert served.cost == pytest.approx(0.003)
    served.reply(HELLO, 0)
    assert fails(CapReached, served) == "tiny: 0.006 spent; at most 0.005 may be. Raise most_cost to go on."
    assert len(server.asked) == 2


@client
def test_tokens_of_a_useless_answer_count(server: Server) -> None:
    server.answers = [(200, said(None)), (200, said(choices=[]))]
    served = player(server)
    fails(BadData, served)
    fails(BadData, served)
    assert served.tokens == 20


@client
@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": "7", "completion_tokens": 3}])
def test_a_cap_needs_counts(server: Server, usage: Any) -> None:
    server.answers = [(200, said(usage=usage))]
    assert "does not say its tokens; a cap needs them" in fails(BadData, player(server))
    assert player(server, most_tokens=None).reply(HELLO, 0) == "Hi."


@client
def test_nobody_there(server: Server) -> None:
    text = fails(NoNetwork, Served("http://127.0.0.1:9/v1", "tiny", KEY, retries=0, seconds=2))
    assert "http://127.0.0.1:9/v1: Connection error." in text


@client
def test_a_late_answer_is_waited_for_no_longer(server: Server) -> None:
    server.answers = [(0, LATE)]
    text = fails(NoNetwork, player(server, seconds=0.1, retries=0))
    assert "Request timed out." in text
    assert "1 tries, 0.1 s for each" in text


@client
def test_a_key_that_no_header_can_hold_is_not_told(server: Server) -> None:
    for key in (f"{KEY}\n", f"{KEY}…"):
        served = Served(server.url, "tiny", key, retries=0)
        with pytest.raises(SelfawareError) as caught:
            served.reply(HELLO, 0)
        assert KEY not in "".join(traceback.format_exception(caught.value))


@client
def test_it_plays(server: Server) -> None:
    server.answers = [(200, said("Jewels.")), (200, said("More jewels.")), (500, b"{}")]
    rules = Rules("ring", "Hello.", "Which word?", turns=2, manipulator="Make it say ring.")
    game = play(player(server), Scripted(("A ring?", "bark")), rules, 3)
    assert (game.outcome, game.manipulator, game.why) == ("win", "tiny", "")
    assert server.asked[0]["messages"] == [
        {"role": "system", "content": "Make it say ring."},
        {"role": "user", "content": "Hello."},
    ]
    again = play(Scripted(("Jewels.", "Gold.")), player(server), rules, 3)
    assert [t.text for t in again.turns] == ["Hello.", "Jewels.", "More jewels.", "Gold."]
    assert (again.outcome, again.guess) == ("no codeword", None)
    assert again.why.startswith("partner: tiny at http")


def test_the_key_is_not_in_its_repr() -> None:
    served = Served("http://localhost:8000/v1", "tiny", KEY)
    assert "tiny" in repr(served)
    assert KEY not in f"{served!r}{served}{copy.copy(served)!r}"


@pytest.mark.parametrize(
    "url", ["", "localhost:8000", "ftp://x/v1", "http://", "http://x:port/v1", "http://[x/v1", "http://x:0"]
)
def test_an_address_is_needed(url: str) -> None:
    with pytest.raises(BadData, match="http://localhost:8000/v1"):
        Served(url, "tiny")


def test_a_login_in_the_address_is_refused() -> None:
    with pytest.raises(BadData, match="goes into key") as caught:
        Served(f"http://me:{KEY}@localhost/v1", "tiny")
    assert KEY not in str(caught.value)


def test_a_capped_cost_needs_a_price() -> None:
    with pytest.raises(BadData, match="most_cost 5 without a price"):
        Served("http://localhost/v1", "tiny", most_cost=5)


def test_without_the_client_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert "pip install 'selfaware[served]'" in fails(BadModel, Served("http://localhost/v1", "tiny", KEY))
