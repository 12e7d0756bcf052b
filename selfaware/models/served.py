"""A player behind a server that speaks OpenAI's chat completions. Knows HTTP and what was spent; must not know the game.

The `openai` client is optional: `pip install 'selfaware[served]'`.
"""

import importlib
import importlib.util
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, final
from urllib.parse import urlsplit

from selfaware.errors import BadData, BadModel, CapReached, NoNetwork, SelfawareError
from selfaware.models.render import joined
from selfaware.types import Turn, require

MILLION = 1_000_000


@final
@dataclass(eq=False)
class Served:
    """One model of one server, and what it has cost so far.

    A cap is looked at before each request, so that the last reply may pass it; requests that time out may be charged
    by the server without being seen here. Servers need not keep to a seed.

    Attributes:
        url: up to and with the version, such as `https://api.openai.com/v1`.
        model: the server's name for it.
        key: goes into the request's header and nowhere else; empty for servers that want none.
        max_new_tokens: longest reply, tokens; `limit` is what the server calls it: newer models of OpenAI want
            `max_completion_tokens`.
        seconds: longest wait for one try.
        retries: after a rate limit, an error of the server's or a lost connection, with growing pauses.
        most_tokens: read and written, over the player's life; None for no cap.
        price: of a million tokens read and of a million written, in any currency.
        most_cost: in that currency, over the player's life; None for no cap.
        read, written: tokens so far.

    Raises:
        BadData: no such address is possible, or a cost is capped without a price.
    """

    url: str
    model: str
    key: str = field(default="", repr=False)
    max_new_tokens: int = 256
    temperature: float = 1.0
    limit: str = "max_tokens"
    seconds: float = 60
    retries: int = 4
    most_tokens: int | None = MILLION
    price: tuple[float, float] | None = None
    most_cost: float | None = None
    read: int = field(default=0, init=False)
    written: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            fine = False
        # It is shown in messages and reprs.
        require(fine, BadData("server: got an address that is none; it looks like http://localhost:8000/v1. Mend it."))
        require(parts.username is None, BadData("server: got a login in the address; it goes into key. Move it there."))
        if self.most_cost is not None and self.price is None:
            raise BadData(f"server: most_cost {self.most_cost:g} without a price; both are needed. Set price.")

    @property
    def name(self) -> str:
        """The model's, as the server calls it."""
        return self.model

    @property
    def tokens(self) -> int:
        """Read and written so far."""
        return self.read + self.written

    @property
    def cost(self) -> float | None:
        """So far, in the price's currency; None without a price."""
        return None if self.price is None else (self.read * self.price[0] + self.written * self.price[1]) / MILLION

    def reply(self, messages: Sequence[Turn], seed: int) -> str:
        """What the server's model says next.

        Args:
            messages: `system` its briefing, if any; `assistant` itself, `user` the other. Neighbours of one role are
                joined, as many servers want roles to alternate.
            seed: sent along.

        Raises:
            CapReached: nothing may be spent any more.
            NoNetwork: no answer, or none but rate limits and errors of the server's.
            BadModel: the server refuses the request.
            BadData: the answer is not a chat completion, or does not say its tokens, which a cap needs.
        """
        self._may_spend()
        client = self._client
        try:
            answer = client.chat.completions.create(
                model=self.model,
                messages=[{"role": turn.role, "content": turn.text} for turn in joined(messages)],
                temperature=self.temperature,
                seed=seed,
                **{self.limit: self.max_new_tokens},
            )
        except (self._openai.OpenAIError, ValueError) as error:
            failed = self._failed(error)
        else:
            return self._text(answer)
        # Out of the handler, or the client's error, whose request holds the key, would hang on to ours.
        raise failed

    def _may_spend(self) -> None:
        if self.most_tokens is not None and self.tokens >= self.most_tokens:
            raise CapReached(
                f"{self.model}: {self.tokens} tokens used; at most {self.most_tokens} may be. Raise most_tokens to go on."
            )
        if self.most_cost is not None and self.cost is not None and self.cost >= self.most_cost:
            raise CapReached(
                f"{self.model}: {self.cost:.4g} spent; at most {self.most_cost:g} may be. Raise most_cost to go on."
            )

    @cached_property
    def _openai(self) -> Any:
        # By name: it is optional, and takes a second to import.
        if importlib.util.find_spec("openai") is None:
            raise BadModel(
                f"{self.model}: a server's model; the package openai is needed. Run pip install 'selfaware[served]'."
            )
        return importlib.import_module("openai")

    @cached_property
    def _client(self) -> Any:
        made = self._openai.OpenAI(
            base_url=self.url, api_key=self.key or "none", timeout=self.seconds, max_retries=self.retries
        )
        # The client reads these from the environment, which is the command line's to read.
        made.organization = made.project = None
        return made

    def _failed(self, error: Exception) -> SelfawareError:
        openai, where = self._openai, f"{self.model} at {self.url}"
        said = self._bare(str(error))
        if isinstance(error, openai.APIStatusError):
            if error.status_code == 429 or error.status_code >= 500:
                return NoNetwork(
                    f"{where}: still {said}, after {self.retries + 1} tries; an answer is needed. Try later, or raise retries."
                )
            return BadModel(f"{where}: refused, {said}; a request it takes is needed. Check model, key and settings.")
        if isinstance(error, openai.APIConnectionError):
            return NoNetwork(
                f"{where}: {said} {self.retries + 1} tries, {self.seconds:g} s for each; an answer is needed. "
                "Check the address, or raise seconds."
            )
        return BadData(
            f"{where}: an answer that cannot be read ({said}); a chat completion is needed. Check the address."
        )

    def _text(self, answer: Any) -> str:
        where = f"{self.model} at {self.url}"
        counts: tuple[Any, ...] = ()
        text = None
        with suppress(AttributeError, LookupError, TypeError):
            counts = (answer.usage.prompt_tokens, answer.usage.completion_tokens)
        with suppress(AttributeError, LookupError, TypeError):
            text = answer.choices[0].message.content
        known = len(counts) == 2 and all(isinstance(n, int) and n >= 0 for n in counts)
        if known:
            self.read, self.written = self.read + counts[0], self.written + counts[1]
        if not isinstance(text, str):
            raise BadData(f"{where}: an answer without text; a chat completion is needed. Check address and model.")
        if not known and (self.most_tokens is not None or self.most_cost is not None):
            raise BadData(
                f"{where}: an answer that does not say its tokens; a cap needs them. Set most_tokens=None and most_cost=None."
            )
        return text

    def _bare(self, text: str) -> str:
        """One short line without the key: servers have been known to send it back."""
        text = " ".join((text.replace(self.key, "…") if self.key else text).split())
        return text if len(text) <= 200 else text[:200] + "…"
