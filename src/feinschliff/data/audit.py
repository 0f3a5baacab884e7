"""What only tokens show: over-long examples, nothing trained, a stop token that is never learnt."""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from feinschliff.core.chat import Example, Rendered, Tool, ToolCall
from feinschliff.core.errors import FeinschliffError
from feinschliff.core.findings import Finding
from feinschliff.data.problems import Problems, in_order

PROBE = "feinschliff_probe_"


class Renders(Protocol):
    """The part of `render.Renderer` that an audit needs."""

    @property
    def stop_ids(self) -> frozenset[int]: ...

    @property
    def max_tokens(self) -> int | None: ...

    def render(self, example: Example, /) -> tuple[Rendered, ...]: ...

    def token_texts(self, tokens: Sequence[int], /) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class Audit:
    """The whole set in tokens. Where one example renders to several, each counts."""

    findings: tuple[Finding, ...]
    n_tokens: int
    n_trained: int
    longest: int  # tokens of the longest rendered example
    longest_line: int
    n_too_long: int  # examples


def audit(examples: Sequence[Example], renderer: Renders, *, max_tokens: int | None = None) -> Audit:
    """Renders every example. `max_tokens` defaults to the model's own limit; None there means no limit.

    A problem that every example has is one finding about the file: its cause is the template, not the data.
    """
    limits = [n for n in (max_tokens, renderer.max_tokens) if n is not None]
    limit = min(limits) if limits else None
    problems = Problems()
    n_tokens = n_trained = longest = longest_line = n_too_long = 0
    for example in examples:
        try:
            rendered = renderer.render(example)
        except FeinschliffError as error:
            problems.error(example.line, "not_renderable", error.message, error.hint)
            continue
        n_tokens += sum(len(r.tokens) for r in rendered)
        n_trained += sum(r.n_trained for r in rendered)
        size = max((len(r.tokens) for r in rendered), default=0)
        if size > longest:
            longest, longest_line = size, example.line
        _check_tools(example, renderer, problems)
        n_too_long += _check(example, rendered, size, limit, renderer.stop_ids, problems)
    found = _collapsed(problems.found, len(examples))
    return Audit(in_order(found), n_tokens, n_trained, longest, longest_line, n_too_long)


def _check(
    example: Example, rendered: Sequence[Rendered], size: int, limit: int | None, stop_ids: frozenset[int], problems: Problems
) -> bool:
    too_long = limit is not None and size > limit
    if too_long:
        problems.error(
            example.line, "too_long", f"The example has {size:,} tokens; the limit is {limit:,}.",
            "Shorten or split it: it is never cut silently.",
        )
    if not any(r.n_trained for r in rendered):
        problems.error(
            example.line, "no_trained_tokens", "No token of the example is trained.", "See: feinschliff data show FILE --line N."
        )
    elif stop_ids and not any(_learns_to_stop(r, stop_ids) for r in rendered):
        problems.error(
            example.line, "stop_token_not_trained", "No stop token is trained: the model would not learn to end its answer.",
            "Check the chat template's end-of-turn token: feinschliff data show FILE --line N.",
        )
    return too_long


def _check_tools(example: Example, renderer: Renders, problems: Problems) -> None:
    """A template without tools drops calls silently: an empty answer would be trained in their place.

    Names that a template shows may stand in the conversation anyway, so it is asked with names that no text holds.
    """
    called = sorted({call.function.name for m in example.messages if m.weight != 0 for call in m.tool_calls or ()})
    if not called and not example.tools:
        return
    probes = {name: f"{PROBE}{i}" for i, name in enumerate(called)}
    try:
        text = "".join(piece for r in renderer.render(_renamed(example, probes)) for piece in renderer.token_texts(r.tokens))
    except FeinschliffError:
        return  # it takes these names and no others: it does look at them
    if missing := [name for name, probe in probes.items() if probe not in text]:
        problems.error(
            example.line, "tool_calls_not_rendered", f"The chat template leaves out the calls of {', '.join(missing)}.",
            "Use a model whose chat template knows tools, or write the calls as text.",
        )
    elif example.tools and f"{PROBE}tool" not in text:
        problems.warning(
            example.line, "tools_not_rendered", "The chat template leaves out the tools: the model will not see them.",
            "Use a model whose chat template knows tools, or describe them in the system message.",
        )


def _renamed(example: Example, probes: Mapping[str, str]) -> Example:
    """With the names of called and offered functions replaced."""
    messages = tuple(
        m.model_copy(update={"tool_calls": tuple(_call(c, probes.get(c.function.name, c.function.name)) for c in m.tool_calls)}) if m.tool_calls else m
        for m in example.messages
    )
    tools = tuple({**tool, "function": {**_function(tool), "name": f"{PROBE}tool"}} for tool in example.tools or ())
    return example.model_copy(update={"messages": messages, "tools": tools or None})


def _call(call: ToolCall, name: str) -> ToolCall:
    return call.model_copy(update={"function": call.function.model_copy(update={"name": name})})


def _function(tool: Tool) -> Mapping[str, object]:
    function = tool.get("function")
    return function if isinstance(function, dict) else {}


def _learns_to_stop(rendered: Rendered, stop_ids: frozenset[int]) -> bool:
    return any(w > 0 and t in stop_ids for t, w in zip(rendered.tokens, rendered.weights, strict=True))


def _collapsed(found: Sequence[Finding], n_examples: int) -> list[Finding]:
    """Findings of the template's kind that all examples share become one, on line 0."""
    kept: list[Finding] = []
    collapsed: set[str] = set()
    for finding in found:
        code = finding.code
        everywhere = n_examples > 1 and sum(f.code == code for f in found) == n_examples if code not in collapsed else True
        if code == "too_long" or not everywhere:
            kept.append(finding)
        elif code not in collapsed:
            collapsed.add(code)
            kept.append(finding.model_copy(update={"line": 0, "message": f"In every example: {finding.message}"}))
    return kept
