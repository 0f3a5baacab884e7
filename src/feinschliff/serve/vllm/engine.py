"""Requests of core.live answered by vLLM: translated, counted, and told as our own engine tells them."""
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from time import monotonic

from prometheus_client.parser import text_string_to_metric_families

from feinschliff.core.errors import Overloaded, ProgramFailed
from feinschliff.core.live import Completed, Limits, LiveEvent, LiveReady, Stats, Submit
from feinschliff.data.render import Renderer
from feinschliff.data.template import read_json
from feinschliff.serve.live.prompts import NO_LIMIT, Prompts
from feinschliff.serve.live.vocabulary import Vocabulary
from feinschliff.serve.vllm import wire
from feinschliff.serve.vllm.adapters import Adapters
from feinschliff.serve.vllm.choice import Choice
from feinschliff.serve.vllm.server import BASE, VllmServer

# One space at most, after a separator. serve.live.grammar's whitespace_pattern may repeat in the llguidance that vLLM 0.32 pins (1.7).
LAYOUT = {"whitespace_flexible": False, "item_separator": ",[ ]?", "key_separator": ":[ ]?"}


class VllmEngine:
    """One base model on a running server."""

    def __init__(self, folder: Path, prompts: Prompts, server: VllmServer, say: Callable[[LiveEvent], None], limits: Limits) -> None:
        self._prompts, self._server, self._say, self._limits = prompts, server, say, limits
        self._adapters = Adapters(server, limits.adapters)
        self._under_way = 0  # choices
        self._pace_s = 1.0  # a request's usual time from its start to its end
        self._weights_bytes = sum(file.stat().st_size for file in folder.glob("*.safetensors"))

    def ready(self) -> LiveReady:
        return LiveReady(max_tokens=self._prompts.max_tokens, lean=False, weights_bytes=self._weights_bytes)

    async def answer(self, request: Submit) -> None:
        """All that there is to tell of it. Raises what it is declined with; cancelled, it stops vLLM's work on it."""
        waiting = max(0, self._under_way - self._limits.slots)
        if waiting and waiting + request.n > self._limits.waiting:
            raise Overloaded(f"{waiting} requests are waiting already.", retry_after_s=max(1.0, self._pace_s * waiting / self._limits.slots))
        started = monotonic()
        tokens, limit = self._prompts.admit(request)
        choices = [
            Choice(request, index, tokens, self._prompts.vocabulary, self._prompts.renderer.stop_ids) for index in range(request.n)
        ]
        self._under_way += request.n
        try:
            async with AsyncExitStack() as held:
                adapter = None if request.adapter is None else await held.enter_async_context(self._adapters.use(Path(request.adapter)))
                asked = completion(request, tokens, limit, adapter or BASE, self._prompts)
                cached = await self._told(asked, choices) if limit or asked.echo else self._nothing(choices)
        finally:
            self._under_way -= request.n
        seconds = monotonic() - started
        self._pace_s += 0.1 * (seconds - self._pace_s)
        made = sum(choice.made for choice in choices)
        self._say(Completed(id=request.id, prompt_tokens=len(tokens), completion_tokens=made, cached_tokens=cached, seconds=seconds))

    async def _told(self, asked: wire.Completion, choices: Sequence[Choice]) -> int:
        """Tells the choices; how many tokens of the prompt were known."""
        cached = 0
        async with aclosing(self._server.complete(asked)) as chunks:
            async for chunk in chunks:
                for more in chunk.choices:
                    for choice in choices if asked.n < len(choices) else (choices[more.index],):
                        for event in choice.take(more):
                            self._say(event)
                cached = cached if chunk.usage is None else chunk.usage.cached_tokens
                if all(choice.ended for choice in choices) and any(more.finish_reason is None for more in chunk.choices):
                    break  # a stop sequence that vLLM does not see: it would go on
        if not all(choice.ended for choice in choices):
            raise ProgramFailed("vLLM's answer broke off.", hint="Ask again; its log may say why.")
        return cached

    def _nothing(self, choices: Sequence[Choice]) -> int:
        """No tokens are wanted, and vLLM would refuse to make none."""
        for choice in choices:
            for event in choice.nothing():
                self._say(event)
        return 0

    async def stats(self, request_id: str) -> Stats:
        """As vLLM counts. Its cache is one block of memory, told as that of slots."""
        families = text_string_to_metric_families(await self._server.metrics())
        counts = Counter[str]()
        for sample in (sample for family in families for sample in family.samples):
            counts[sample.name] += int(sample.value)
        reserved = self._limits.cache_bytes + self._limits.slots_bytes
        return Stats(
            id=request_id, active=counts["vllm:num_requests_running"], waiting=counts["vllm:num_requests_waiting"],
            adapters=len(self._adapters), cache_bytes=0, slots_bytes=reserved, prompt_tokens=counts["vllm:prompt_tokens_total"],
            cached_tokens=counts["vllm:prefix_cache_hits_total"], completion_tokens=counts["vllm:generation_tokens_total"],
            steps=counts["vllm:iteration_tokens_total_count"],
        )  # fmt: skip


def completion(request: Submit, tokens: Sequence[int], limit: int, model: str, prompts: Prompts) -> wire.Completion:
    """What vLLM is asked. It refuses several greedy choices, which are all the same: it is asked for one."""
    sampling = request.sampling
    stop_ids = () if sampling.ignore_end else tuple(sorted(prompts.renderer.stop_ids))
    schema = None if request.format is None else wire.Structured(schema_=request.format.schema_ | {"x-guidance": LAYOUT})
    return wire.Completion(
        model=model, prompt=tuple(tokens), max_tokens=limit, n=request.n if sampling.temperature > 0 else 1,
        temperature=sampling.temperature, top_p=sampling.top_p, seed=sampling.seed, stop=tuple(s for s in sampling.stop if s),
        stop_token_ids=stop_ids, ignore_eos=sampling.ignore_end, skip_special_tokens=not request.markup,
        frequency_penalty=sampling.frequency_penalty, presence_penalty=sampling.presence_penalty,
        logit_bias={t: b for t, b in sampling.logit_bias.items() if 0 <= t < prompts.n_vocab} or None,
        logprobs=sampling.logprobs, echo=request.echo and sampling.logprobs is not None, structured_outputs=schema,
    )  # fmt: skip


def prompts_of(folder: Path) -> Prompts:
    """Of the model in `folder`, with the context that it was made for. Raises ModelUnavailable."""
    renderer, config = Renderer.of(folder), read_json(folder / "config.json")
    n_vocab = int((config if "vocab_size" in config else config["text_config"])["vocab_size"])
    return Prompts(renderer, Vocabulary(folder), n_vocab, renderer.max_tokens or NO_LIMIT)
