"""Chats around the token engine: render, generate, decode; one adapter at a time on one loaded base."""
import time
from collections.abc import Callable
from pathlib import Path

import torch

from feinschliff.core.engine import Generate, Replies, ReplyLine
from feinschliff.core.errors import BadData
from feinschliff.data.render import Renderer
from feinschliff.nn import adapter
from feinschliff.nn.model import Decoder, fast_dtype, load
from feinschliff.serve.engine import generate


class ChatEngine:
    """One base model in memory. `quantised`: in 4 bits, as a qlora adapter saw it while it was trained."""

    def __init__(self, folder: Path, dtype: torch.dtype | None = None, *, quantised: bool = False) -> None:
        self._renderer = Renderer.of(folder)
        self._decoder: Decoder = load(folder, dtype=dtype or fast_dtype(), trainable=False, quantised=quantised)
        self._adapter: str | None = None

    def answer(self, request: Generate, on_finished: Callable[[int], None]) -> Replies:
        """Answer every conversation of the request. Raises BadData for a prompt that leaves no room for an answer."""
        started = time.monotonic()
        self._use(request.adapter)
        prompts = [self._renderer.prompt_tokens(c) for c in request.conversations]
        limit = self._renderer.max_tokens
        for number, prompt in enumerate(prompts, 1):
            if limit and len(prompt) + request.sampling.max_tokens > limit:
                raise BadData(
                    f"Conversation {number} has {len(prompt)} tokens; with an answer of {request.sampling.max_tokens} "
                    f"it exceeds the model's {limit}.",
                    hint="Shorten the prompt, retrieve fewer documents, use fewer shots, or lower max_output_tokens.",
                )
        generations = generate(
            self._decoder, prompts, request.sampling, stop_ids=self._renderer.stop_ids, slots=request.slots,
            window=self._decoder.window, on_finished=on_finished,
        )  # fmt: skip
        replies = tuple(
            ReplyLine(
                text=self._renderer.decode(g.tokens), input_tokens=len(g.prompt), output_tokens=len(g.tokens),
                finish_reason=g.finish_reason or "length",
            )
            for g in generations
        )  # fmt: skip
        return Replies(id=request.id, replies=replies, seconds=time.monotonic() - started)

    def _use(self, folder: str | None) -> None:
        if folder == self._adapter:
            return
        pairs, scale = adapter.read(Path(folder)) if folder else ({}, 1.0)
        adapter.apply(self._decoder, pairs, scale)
        self._adapter = folder
