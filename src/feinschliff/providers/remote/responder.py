"""A hosted model as a Responder: any name that answers in a region, base, tuned or deployed."""
import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from openai import BadRequestError, omit

from feinschliff.core.chat import Conversation
from feinschliff.core.engine import Sampling
from feinschliff.core.errors import NoPrice, ProviderRefused, ProviderUnreachable
from feinschliff.core.ports import Reply
from feinschliff.providers.remote.account import Account
from feinschliff.providers.remote.failures import told
from feinschliff.providers.remote.kept import KeptAnswers, key_of
from feinschliff.providers.remote.ledger import Entry

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletion, ChatCompletionMessageParam

AT_ONCE = 8  # requests
WAIT_S = 5.0  # after the client's own retries
FILTERED = "content_filter"  # Azure answers 400 to a question that its filter refuses


def _silent(done: int) -> None:
    pass


@dataclass
class RemoteResponder:
    """A core.ports.Responder. Unlike on this machine, an answer may depend on when it is asked: hosted models are not held still."""

    account: Account
    model: str  # or the name of a deployment
    sampling: Sampling
    tuned: bool = False  # for its price
    at_once: int = AT_ONCE
    on_progress: Callable[[int], None] = field(default=_silent)
    kept: KeptAnswers | None = None  # what was paid for is not asked again
    study: str = ""  # for the ledger
    patience_s: float = 0.0  # for a provider that answers nothing
    _newer: bool = field(default=False, init=False)

    async def __call__(self, conversations: Sequence[Conversation], /) -> Sequence[Reply]:
        """Raises ProviderUnreachable, ProviderRefused; what the provider's filter refuses is an empty reply that says so."""
        places = asyncio.Semaphore(self.at_once)
        done = 0

        async def ask(conversation: Conversation) -> Reply:
            nonlocal done
            async with places:
                reply = await asyncio.to_thread(self._once, conversation, alone=len(conversations) == 1)
            done += 1
            self.on_progress(done)
            return reply

        return await asyncio.gather(*map(ask, conversations))

    def _once(self, conversation: Conversation, *, alone: bool) -> Reply:
        """From what is kept, else asked; a request that is timed is always asked."""
        if self.kept is None or alone:
            return self._patiently(conversation, alone=alone)
        key = key_of(self.model, self.sampling, conversation)
        if (known := self.kept.get(key)) is not None:
            return known
        reply = self._patiently(conversation, alone=alone)
        self.kept.add(key, reply)
        return reply

    def _patiently(self, conversation: Conversation, *, alone: bool) -> Reply:
        waited_s = 0.0
        while True:
            try:
                return self._ask(conversation, alone=alone)
            except ProviderUnreachable as error:
                pause_s = max(WAIT_S, error.retry_after_s)
                waited_s += pause_s
                if waited_s > self.patience_s:
                    raise
                self.account.sleep(pause_s)

    def _ask(self, conversation: Conversation, *, alone: bool) -> Reply:
        messages = cast("list[ChatCompletionMessageParam]", [m.model_dump(exclude_none=True, exclude={"weight"}) for m in conversation])
        t0 = time.monotonic()
        with told(self.account.name, f"asking {self.model}"):
            answer = self._completion(messages)
        milliseconds = (time.monotonic() - t0) * 1000
        if answer is None:
            return Reply("", 0, 0, FILTERED)
        if not answer.choices:
            raise ProviderRefused(f"{self.account.name}: {self.model} answered without a choice.", hint="Try again.")
        used, choice = answer.usage, answer.choices[0]
        given, written = (used.prompt_tokens, used.completion_tokens) if used else (0, 0)
        self._record(given, written)
        return Reply(
            choice.message.content or "", given, written, choice.finish_reason or "stop", latency_ms=milliseconds if alone else None
        )

    def _completion(self, messages: "list[ChatCompletionMessageParam]") -> "ChatCompletion | None":
        newer, most = self._newer, self.sampling.max_tokens
        try:
            return self.account.client.chat.completions.create(
                model=self.model, messages=messages, temperature=self.sampling.temperature, seed=self.sampling.seed,
                max_tokens=omit if newer else most, max_completion_tokens=most if newer else omit,
            )  # fmt: skip
        except BadRequestError as error:
            if error.code == FILTERED:
                return None
            if not newer and "max_completion_tokens" in error.message:  # newer models know only this name
                self._newer = True
                return self._completion(messages)
            raise

    def _record(self, given: int, written: int) -> None:
        price, money = self.account.price, None
        if price is not None:
            with suppress(NoPrice):
                money = price.request(given, written, tuned=self.tuned)
        ledger = self.account.ledger
        currency = price.currency if price else "USD"
        ledger.add(
            Entry(at=ledger.clock(), kind="answer", model=self.model, input_tokens=given, output_tokens=written, money=money, currency=currency, study=self.study)
        )
