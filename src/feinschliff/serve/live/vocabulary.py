"""Text ↔ tokens for streaming: text as it grows token by token, and the bytes that single tokens stand for."""
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from feinschliff.core.live import TokenText

_HEX_BYTE = 6  # characters of <0x1F>


class Vocabulary:
    """A model folder's tokenizer."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "tokenizer.json"
        self._tokenizer = Tokenizer.from_file(str(self.file))
        self._added = self._tokenizer.get_added_tokens_decoder()

    def encode(self, text: str) -> list[int]:
        """With the special tokens that the tokenizer adds by itself (a beginning-of-text token, say)."""
        return self._tokenizer.encode(text, add_special_tokens=True).ids

    def encode_plain(self, text: str) -> list[int]:
        """Nothing added."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, tokens: Sequence[int], *, markup: bool) -> str:
        """`markup` keeps special tokens."""
        return self._tokenizer.decode(list(tokens), skip_special_tokens=not markup)

    def text(self, token: int) -> str:
        """One token by itself, readable; a part of a character becomes U+FFFD."""
        return self.raw(token).decode(errors="replace")

    def raw(self, token: int) -> bytes:
        """The bytes a token stands for."""
        if token in self._added:
            return self._added[token].content.encode()
        name = self._tokenizer.id_to_token(token)
        if name is None:
            return b""
        if self._byte_level:
            return bytes(_BYTES[c] for c in name if c in _BYTES)
        if len(name) == _HEX_BYTE and name.startswith("<0x"):
            return bytes([int(name[3:5], 16)])
        return name.replace("▁", " ").encode()

    def told(self, token: int, logprob: float | None) -> TokenText:
        """As it is told to those who ask for log-probabilities."""
        raw = self.raw(token)
        return TokenText(token=token, text=raw.decode(errors="replace"), raw=tuple(raw), logprob=logprob)

    def stream(self, *, markup: bool) -> "TextStream":
        return TextStream(self._tokenizer, skip_special=not markup)

    @cached_property
    def _byte_level(self) -> bool:
        return '"ByteLevel"' in json.dumps(json.loads(self.file.read_text(encoding="utf-8")).get("decoder"))


class TextStream:
    """Text of tokens that come one by one; a character in parts is held back until it is whole."""

    def __init__(self, tokenizer: Tokenizer, *, skip_special: bool) -> None:
        self._tokenizer, self._skip = tokenizer, skip_special
        self._stream = DecodeStream(skip_special_tokens=skip_special)
        self._pending: list[int] = []

    def push(self, token: int) -> str:
        text = self._stream.step(self._tokenizer, token)
        if text is None:
            self._pending.append(token)
            return ""
        self._pending.clear()
        return text

    def rest(self) -> str:
        """What was held back, as far as it can be read, when no more tokens come."""
        pending, self._pending = self._pending, list[int]()
        return self._tokenizer.decode(pending, skip_special_tokens=self._skip) if pending else ""


def _byte_characters() -> dict[str, int]:
    """GPT-2's alphabet: printable bytes stand for themselves, the other 68 for the characters from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


_BYTES = _byte_characters()
