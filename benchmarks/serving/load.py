"""Clients of a chat server: prompts with a long common beginning, answers streamed, times taken where they arrive."""
import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx2
from tokenizers import Tokenizer

NEW_TOKENS = 64
SHARED_TOKENS = 400
LIMIT_S = 300.0
_RULES = (
    "A reader may keep a book for {n} days.", "Whoever returns it late waits {n} hours for the next one.", "Rooms on floor {n} close early.",
    "Maps are read at table {n}, never elsewhere.", "Shelf {n} holds tales of the sea and of those who crossed it.",
    "Each tale begins with weather, a place and a name, and ends after {n} turns.",
)  # fmt: skip
_HEROES = ("a lighthouse", "an old ferry", "two brothers", "a clockmaker", "the last fox", "a lost letter", "a blue door", "the tide")


class Failed(Exception):
    """A server did not answer as it should; the text is what it said."""


@dataclass(frozen=True, slots=True)
class Timed:
    """One streamed answer; times are seconds from when it was asked."""

    first_s: float
    last_s: float
    tokens: int

    @property
    def tokens_per_s(self) -> float:
        """While decoding: after the first token."""
        return (self.tokens - 1) / (self.last_s - self.first_s) if self.last_s > self.first_s else 0.0


@dataclass(frozen=True, slots=True)
class Together:
    """Several clients at once."""

    answers: tuple[Timed, ...]
    wall_s: float

    @property
    def tokens_per_s(self) -> float:
        return sum(a.tokens for a in self.answers) / self.wall_s


class Prompts:
    """Conversations whose system message has SHARED_TOKENS tokens; `case` makes a beginning that nobody has read yet."""

    def __init__(self, model: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))

    def conversation(self, case: str, client: int) -> list[dict[str, str]]:
        story = f"Write a long story about {_HEROES[client % len(_HEROES)]} in {1800 + client}."
        return [{"role": "system", "content": self._system(case)}, {"role": "user", "content": story}]

    def _system(self, case: str) -> str:
        text = f"{case}: these are the rules of the house of books. " + " ".join(
            _RULES[n % len(_RULES)].format(n=n) for n in range(2, 60)
        )
        return self._tokenizer.decode(self._tokenizer.encode(text, add_special_tokens=False).ids[:SHARED_TOKENS])


async def ask(client: httpx2.AsyncClient, model: str, messages: Sequence[dict[str, str]]) -> Timed:
    """Raises Failed."""
    body = {
        "model": model, "messages": list(messages), "max_tokens": NEW_TOKENS, "temperature": 0.0, "stream": True,
        "stream_options": {"include_usage": True},
    }  # fmt: skip
    started = time.perf_counter()
    first_s, last_s, pieces, counted = 0.0, 0.0, 0, 0
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        if response.status_code != 200:
            raise Failed(f"{response.status_code}: {(await response.aread())[:300]!r}")
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line[6:])
            if "error" in chunk:
                raise Failed(str(chunk["error"])[:300])
            counted = (chunk.get("usage") or {}).get("completion_tokens") or counted
            if any(choice["delta"].get("content") for choice in chunk.get("choices", ())):
                last_s, pieces = time.perf_counter() - started, pieces + 1
                first_s = first_s or last_s
    if not pieces:
        raise Failed("the answer was empty")
    return Timed(first_s, last_s, counted or pieces)


async def together(client: httpx2.AsyncClient, asked: Sequence[tuple[str, list[dict[str, str]]]]) -> Together:
    """All at once. Raises Failed."""
    started = time.perf_counter()
    answers = await asyncio.gather(*(ask(client, model, messages) for model, messages in asked))
    return Together(tuple(answers), time.perf_counter() - started)


def session(url: str, key: str) -> httpx2.AsyncClient:
    limits = httpx2.Limits(max_connections=None)
    return httpx2.AsyncClient(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=LIMIT_S, limits=limits, trust_env=False)
