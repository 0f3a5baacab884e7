"""Models asked in the background, for evaluations: patiently where they are busy, once more where an engine died."""
import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from feinschliff.app import answering
from feinschliff.app.eval_tallies import Usage
from feinschliff.app.service import Service, new_id
from feinschliff.core.chat import Message
from feinschliff.core.errors import Overloaded, ProgramFailed
from feinschliff.core.live import ChatPrompt, JsonFormat, LiveSampling, Submit
from feinschliff.core.service import Caller


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of a model."""

    messages: tuple[Message, ...]
    sampling: LiveSampling
    schema: dict[str, Any] | None = None  # the answer is held to it


@dataclass(frozen=True, slots=True)
class Answer:
    """What it said."""

    text: str
    finish_reason: str
    usage: Usage


@dataclass(slots=True)
class Models:
    """Those that one run asks. On the server's event loop, as the engines are."""

    service: Service
    caller: Caller
    _found: dict[str, answering.Answering] = field(default_factory=dict)

    async def ask(self, model: str, asked: Asked) -> Answer:
        """Raises NotFound for the model, and what its engine declines the request with."""
        if model not in self._found:
            self._found[model] = await asyncio.to_thread(answering.answering, self.service, self.caller, model)
        form = None if asked.schema is None else JsonFormat.model_validate({"schema": asked.schema})
        died = False
        while True:
            submit = Submit(id=new_id("chatcmpl-"), prompt=ChatPrompt(messages=asked.messages), sampling=asked.sampling, format=form)
            try:
                async with aclosing(await answering.begin(self.service, self._found[model], submit)) as answers:
                    (choice,), counts = await answering.whole(answers, 1)
            except Overloaded as error:
                await asyncio.sleep(error.retry_after_s)
            except ProgramFailed:
                if died:
                    raise
                died = True
            else:
                usage = Usage(
                    calls=1, prompt_tokens=counts.prompt_tokens, completion_tokens=counts.completion_tokens, cached_tokens=counts.cached_tokens
                )
                return Answer(choice.text, choice.finish_reason, usage)

    async def likeness(self, texts: Sequence[str]) -> tuple[str, float, Usage]:
        """Cosine of two texts by the first embedding model on offer, with its name."""
        model = self.service.offered.embedders()[0]
        (one, other), n_tokens = await asyncio.to_thread(answering.embed, self.service, self.caller, model, texts)
        return model, sum(x * y for x, y in zip(one, other, strict=True)), Usage(calls=1, prompt_tokens=n_tokens)
