"""Answers held to a JSON schema: llguidance says which tokens may come next, everything else is given no probability."""
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from feinschliff.core.errors import BadData, MissingExtra
from feinschliff.core.live import JsonFormat

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

# One space at most between parts: models that are unsure would otherwise go on with white space for ever.
_LAYOUT = {"whitespace_pattern": "[ ]?"}


@dataclass(slots=True)
class Grammar:
    """Where one answer stands."""

    _matcher: "LLMatcher"

    def hidden(self) -> Tensor:
        """(V,) bool, True for the tokens that may not come next."""
        return torch.frombuffer(bytearray(self._matcher.compute_logit_bias()), dtype=torch.uint8) == 0

    def push(self, token: int) -> None:
        self._matcher.consume_token(token)

    @property
    def complete(self) -> bool:
        """Nothing can follow."""
        return self._matcher.is_stopped()


class Grammars:
    """Makes grammars for one model. The library is loaded with the first of them."""

    def __init__(self, tokenizer: Path, n_vocab: int, stop_ids: frozenset[int]) -> None:
        self._file, self._n_vocab, self._stop_ids = tokenizer, n_vocab, stop_ids
        self._tokenizer: LLTokenizer | None = None

    def of(self, wanted: JsonFormat) -> Grammar:
        """Raises BadData for a schema that the library cannot hold answers to, MissingExtra without the library."""
        try:
            from llguidance import LLMatcher, LLTokenizer
        except ImportError:
            raise MissingExtra("llguidance", extra="local", feature="response_format") from None
        if self._tokenizer is None:
            self._tokenizer = LLTokenizer(str(self._file), n_vocab=self._n_vocab, eos_token=sorted(self._stop_ids))
        grammar = LLMatcher.grammar_from_json_schema(json.dumps(wanted.schema_), overrides=_LAYOUT)
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0)
        if matcher.is_error():
            raise BadData(
                f"The JSON schema cannot be enforced: {matcher.get_error().strip().splitlines()[0]}",
                hint="Leave out what is named, and check it in your own code.",
            )
        return Grammar(matcher)
