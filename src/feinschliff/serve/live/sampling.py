"""From logits to tokens, and to the log-probabilities that are told about them."""
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from feinschliff.core.live import LiveSampling

NUCLEUS = 512  # tokens; a nucleus is nearly always smaller, and sorting so few is fast


@dataclass(frozen=True, slots=True)
class Choice:
    """What is chosen by, for one row of logits. `made` are the tokens of the answer so far."""

    sampling: LiveSampling
    generator: torch.Generator
    made: Sequence[int]
    hidden_V: Tensor | None = None  # True: forbidden by a grammar


@dataclass(frozen=True, slots=True)
class Scores:
    """Log-probabilities of one row: the token's own, and the likeliest tokens, best first."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


def choose(logits_RV: Tensor, choices: Sequence[Choice]) -> list[int]:
    """One token per row."""
    chosen: list[int] = logits_RV.argmax(-1).tolist()
    for row, choice in enumerate(choices):
        sampling = choice.sampling
        bent = _bent(sampling) or choice.hidden_V is not None
        if sampling.temperature == 0 and not bent:
            continue
        logits_V = _adjusted(logits_RV[row], choice) if bent else logits_RV[row]
        chosen[row] = int(logits_V.argmax()) if sampling.temperature == 0 else _draw(logits_V, choice)
    return chosen


def _bent(sampling: LiveSampling) -> bool:
    return bool(sampling.logit_bias or sampling.frequency_penalty or sampling.presence_penalty)


def _adjusted(logits_V: Tensor, choice: Choice) -> Tensor:
    """Penalties as OpenAI defines them, bias and grammar applied, on a copy."""
    logits_V = logits_V.clone()
    sampling = choice.sampling
    for token, count in Counter(choice.made).items() if sampling.frequency_penalty or sampling.presence_penalty else ():
        logits_V[token] -= count * sampling.frequency_penalty + sampling.presence_penalty
    for token, bias in sampling.logit_bias.items():
        if 0 <= token < logits_V.shape[0]:
            logits_V[token] += bias
    if choice.hidden_V is not None:
        logits_V[: choice.hidden_V.shape[0]].masked_fill_(choice.hidden_V[: logits_V.shape[0]], float("-inf"))
    return logits_V


def _draw(logits_V: Tensor, choice: Choice) -> int:
    """Nucleus sampling (Holtzman et al. 2020): from the fewest tokens whose probability reaches top_p."""
    p_V = (logits_V / choice.sampling.temperature).softmax(-1)
    top_p = choice.sampling.top_p
    if top_p >= 1:
        return int(torch.multinomial(p_V, 1, generator=choice.generator))
    p_N, token_N = p_V.topk(min(NUCLEUS, p_V.shape[0]))
    if float(p_N.sum()) < top_p:
        p_N, token_N = p_V.sort(descending=True)
    p_N[p_N.cumsum(-1) - p_N >= top_p] = 0
    return int(token_N[torch.multinomial(p_N, 1, generator=choice.generator)])


def scores(logits_RV: Tensor, tokens: Sequence[int], n_top: int) -> list[Scores]:
    """Each row's log-probabilities; the token itself is always in `top`, with the same number."""
    logprobs_RV = logits_RV.log_softmax(-1)
    own = logprobs_RV[torch.arange(len(tokens)), torch.tensor(tokens)].tolist()
    if not n_top:
        return [Scores(t, p, ()) for t, p in zip(tokens, own, strict=True)]
    best = logprobs_RV.topk(min(n_top, logprobs_RV.shape[1]))
    found = []
    for token, logprob, values, ids in zip(tokens, own, best.values.tolist(), best.indices.tolist(), strict=True):
        top = list(zip(ids, values, strict=True))
        if token not in ids:
            top.append((token, logprob))
        found.append(Scores(token, logprob, tuple(top)))
    return found
