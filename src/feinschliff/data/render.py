"""The one renderer: it builds both the training tokens with their loss weights and the serving prompt.

They cannot drift apart, because both are made of the same segments: a conversation's text is cut where an answer
begins and where it ends, and every segment is tokenised by itself. So a rendered example always starts with exactly
the tokens that the model is shown when it has to answer.
"""
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tokenizers import Tokenizer

from feinschliff.core.chat import Conversation, Example, Message, Rendered, Tool
from feinschliff.core.errors import BadData, ModelUnavailable
from feinschliff.data.template import ARGUMENTS_FILE, ChatTemplate, read_json

_THOUGHT = "</think>"


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of conversation text; `weight` is the loss weight of its tokens."""

    text: str
    weight: int


class Renderer:
    """Text ↔ tokens for one model. Make one with `Renderer.of(folder)`."""

    def __init__(
        self, tokenizer: Tokenizer, template: ChatTemplate, *, stop_ids: frozenset[int], max_tokens: int | None
    ) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self.stop_ids = stop_ids  # generation ends at any of these
        self.max_tokens = max_tokens  # the model's context length

    @classmethod
    def of(cls, folder: Path) -> "Renderer":
        """Load tokenizer, chat template, stop tokens and context length from a model folder."""
        file = folder / "tokenizer.json"
        if not file.is_file():
            raise ModelUnavailable(
                f"{folder} is not a model folder: tokenizer.json is missing.",
                hint="Name a catalogue model or a folder that transformers' save_pretrained wrote.",
            )
        tokenizer = Tokenizer.from_file(str(file))
        config = read_json(folder / "config.json")
        return cls(
            tokenizer,
            ChatTemplate.of(folder),
            stop_ids=_stop_ids(folder, tokenizer),
            max_tokens=config.get("max_position_embeddings"),
        )

    def render(self, example: Example) -> tuple[Rendered, ...]:
        """Tokens and loss weights of an example.

        All assistant turns are trained, except those with `weight` 0, each up to and including its stop token.
        Normally one result. Where the template rewrites history (drops earlier reasoning, say), what the model sees
        at each turn differs, so every trained turn becomes a rendered example of its own.
        """
        segments = self._segments(example.messages, example.tools)
        if segments is not None:
            return (self._rendered(segments),)
        turns = [i for i, m in enumerate(example.messages) if m.role == "assistant" and m.weight != 0]
        return tuple(self._rendered(self._single_turn(example.messages[: i + 1], example.tools)) for i in turns)

    def prompt_tokens(
        self, messages: Sequence[Message], tools: Sequence[Tool] | None = None, *, answer_next: bool = True
    ) -> list[int]:
        """The tokens after which the model answers `messages`; without `answer_next` those of the conversation alone."""
        if not answer_next:
            return list(self._encode(self._template.render(messages, tools=tools, answer_next=False)))
        segments = self._segments(tuple(messages), tools, answer_next=True)
        if segments is None:
            segments = [Segment(self._template.render(messages, tools=tools, answer_next=True), 0)]
        return [token for s in segments for token in self._encode(s.text)]

    def decode(self, tokens: Sequence[int], *, special: bool = False) -> str:
        """Plain text of generated tokens; special tokens are left out unless they are wanted."""
        return self._tokenizer.decode(list(tokens), skip_special_tokens=not special)

    def encode_text(self, text: str, *, special: bool = False) -> list[int]:
        """Tokens of a plain text; with `special` also those that the tokenizer adds by itself."""
        return self._tokenizer.encode(text, add_special_tokens=True).ids if special else list(self._encode(text))

    def token_texts(self, tokens: Sequence[int]) -> list[str]:
        """One readable text per token, special tokens included."""
        return [self._tokenizer.decode([t], skip_special_tokens=False) for t in tokens]

    def _segments(
        self, messages: Conversation, tools: Sequence[Tool] | None, *, answer_next: bool = False
    ) -> list[Segment] | None:
        """The conversation cut at its answers, or None where the template is not prefix-stable."""
        segments: list[Segment] = []
        done = ""
        for i, message in enumerate(messages):
            if message.role != "assistant":
                continue
            before = self._template.render(messages[:i], tools=tools, answer_next=True)
            after = self._template.render(messages[: i + 1], tools=tools, answer_next=False)
            if not (before.startswith(done) and after.startswith(before)):
                return None
            segments += [Segment(before[len(done) :], 0), Segment(after[len(before) :], int(message.weight != 0))]
            done = after
        if answer_next:
            whole = self._template.render(messages, tools=tools, answer_next=True)
            if not whole.startswith(done):
                return None
            segments.append(Segment(whole[len(done) :], 0))
        return segments

    def _single_turn(self, messages: Conversation, tools: Sequence[Tool] | None) -> list[Segment]:
        """The last turn after the prompt it would really be given."""
        before = self._template.render(messages[:-1], tools=tools, answer_next=True)
        after = self._template.render(messages, tools=tools, answer_next=False)
        if not after.startswith(before) and _THOUGHT in (messages[-1].content or "") and self._template.arguments.get("enable_thinking") is False:
            raise BadData(
                "The answer holds a thought, but the model is asked without one.",
                hint=f'Train the answer alone; or let the model think: write {{"enable_thinking": true}} into {ARGUMENTS_FILE} in its folder.',
            )
        answer = after[len(before) :] if after.startswith(before) else messages[-1].content or ""
        return [Segment(before, 0), Segment(answer, 1)]

    def _rendered(self, segments: Sequence[Segment]) -> Rendered:
        tokens: list[int] = []
        weights: list[float] = []
        for index, segment in enumerate(segments):
            ids = list(self._encode(segment.text))
            if not segment.weight:
                tokens += ids
                weights += [0.0] * len(ids)
                continue
            last_stop = next((k for k in reversed(range(len(ids))) if ids[k] in self.stop_ids), None)
            if last_stop is None and index == len(segments) - 1:
                ids.append(min(self.stop_ids))  # a template that never ends a turn would teach endless answers
            n_trained = len(ids) if last_stop is None else last_stop + 1
            tokens += ids
            weights += [1.0] * n_trained + [0.0] * (len(ids) - n_trained)
        return Rendered(tokens, weights)

    def _encode(self, text: str) -> tuple[int, ...]:
        return _encode(self._tokenizer, text)


@lru_cache(maxsize=4096)  # system prompts and retrieved documents recur in thousands of conversations
def _encode(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    return tuple(tokenizer.encode(text, add_special_tokens=False).ids)


def _stop_ids(folder: Path, tokenizer: Tokenizer) -> frozenset[int]:
    ids: set[int] = set()
    for name in ("config.json", "generation_config.json"):
        if (folder / name).is_file():
            eos = json.loads((folder / name).read_text(encoding="utf-8")).get("eos_token_id")
            ids |= set(eos) if isinstance(eos, list) else {eos} - {None}
    token = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")).get("eos_token")
    text = token["content"] if isinstance(token, dict) else token
    if text and (eos_id := tokenizer.token_to_id(text)) is not None:
        ids.add(eos_id)
    if not ids:
        raise ModelUnavailable(f"{folder} names no stop token.", hint="Set eos_token_id in generation_config.json.")
    return frozenset(ids)
