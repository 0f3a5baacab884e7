"""What is wrong with examples: one finding a problem, with a stable code, its place and its remedy."""
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median

from feinschliff.core.chat import Conversation, Example, ExampleId
from feinschliff.core.findings import CheckReport, Finding
from feinschliff.core.study import Format, Mapping
from feinschliff.data.audit import Audit, Renders, audit
from feinschliff.data.problems import Problems, in_order
from feinschliff.data.read import ReadResult, read

MIN_EXAMPLES = 10  # as the hosted services demand
OUTLIER_CHARACTERS = 2000  # an answer is long enough to be remarked on …
OUTLIER_FACTOR = 20  # … if it is this many times as long as the median
# UTF-8 read as Windows-1252 and written again: "Ã¤", "â€™", "Â°"
MOJIBAKE = re.compile("Ã[\u0080-\u00bf]|â€[\u0080-\u009f™œ˜š›“”]|Â[\u00a0-\u00bf]")
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")


def check(
    path: Path,
    format: Format = "auto",
    mapping: Mapping | None = None,
    *,
    renderer: Renders | None = None,
    max_tokens: int | None = None,
) -> CheckReport:
    """Everything that is wrong with a data file; with a renderer also what only its tokens show.

    `n_examples` counts every record in the file, the unreadable ones too. Raises BadData as `read` does.
    """
    result = read(path, format, mapping)
    return report_of(result, renderer=renderer, max_tokens=max_tokens)[0]


def report_of(
    result: ReadResult, *, renderer: Renders | None = None, max_tokens: int | None = None
) -> tuple[CheckReport, Audit | None]:
    """`check` for a file that has been read already; with a renderer also the token counts of its sound examples."""
    found = [*result.findings, *findings_of(result.examples)]
    if result.format and result.n_records < MIN_EXAMPLES:
        found.append(_too_few(result.n_records))
    counted: Audit | None = None
    if renderer is not None:
        broken = {f.line for f in found if f.level == "error"}
        sound = [example for example in result.examples if example.line not in broken]
        counted = audit(sound, renderer, max_tokens=max_tokens)
        found += counted.findings
    return CheckReport.of(result.n_records, in_order(found)), counted


def findings_of(examples: Sequence[Example]) -> tuple[Finding, ...]:
    """Problems of each example by itself, then those that show only between them."""
    problems = Problems()
    for example in examples:
        _roles(example, problems)
        _answers(example, problems)
        _tools(example, problems)
        _text_quality(example, problems)
    _between(examples, problems)
    _outliers(examples, problems)
    _missing_system(examples, problems)
    return in_order(problems.found)


def _too_few(n: int) -> Finding:
    return Finding(
        line=0, level="error", code="too_few_examples",
        message=f"The file has {n} example{'s' * (n != 1)}; at least {MIN_EXAMPLES} are needed.",
        hint="Add examples; 50 to 100 good ones are a usual start.",
    )


def _roles(example: Example, problems: Problems) -> None:
    line, messages = example.line, example.messages
    if not any(m.role == "assistant" for m in messages):
        problems.error(line, "no_assistant_message", "No message is the assistant's.", "Add the answer to learn.")
    elif messages[-1].role != "assistant":
        problems.error(
            line, "last_not_assistant", f"The last message is the {messages[-1].role}'s, not the assistant's.",
            "End with the answer to learn.",
        )
    if not any(m.role == "user" for m in messages):
        problems.warning(line, "no_user_message", "No message is the user's.", "Add the question that is answered.")
    turns = [m.role for m in messages if m.role in ("user", "assistant", "tool")]
    if turns and turns[0] == "assistant":
        problems.warning(
            line, "assistant_first", "The assistant speaks before the user.", "Some chat templates refuse that."
        )
    for before, after in pairwise(turns):
        if before == after and before in ("user", "assistant"):
            problems.warning(
                line, "roles_do_not_alternate", f"Two {before} messages follow each other.",
                "Join them: some chat templates refuse that.",
            )
            break
    if any(m.role in ("system", "developer") for m in messages[1:]):
        problems.warning(line, "late_system_message", "A system message is not the first one.", "Move it to the front.")


def _answers(example: Example, problems: Problems) -> None:
    line = example.line
    answers = [m for m in example.messages if m.role == "assistant"]
    for i, m in enumerate(example.messages, start=1):
        if m.role != "assistant":
            continue
        if not (m.content or "").strip() and not m.tool_calls:
            problems.error(line, "empty_answer", f"Message {i} (assistant) is empty.", "Write the answer, or remove the line.")
        elif m.content is not None and m.content != m.content.strip():
            problems.warning(
                line, "answer_whitespace", f"Message {i} (assistant) begins or ends with white space.",
                "It is learnt as part of the answer; remove it.",
            )
    if answers and all(m.weight == 0 for m in answers):
        problems.error(
            line, "nothing_to_learn", "Every assistant message has weight 0.", "Give the answer to learn weight 1."
        )


def _tools(example: Example, problems: Problems) -> None:
    called: set[str] = set()
    for i, m in enumerate(example.messages, start=1):
        called |= {call.id for call in m.tool_calls or ()}
        if m.role == "tool" and (not m.tool_call_id or m.tool_call_id not in called):
            problems.warning(
                example.line, "unmatched_tool_message",
                f"Message {i} (tool) answers the call {m.tool_call_id!r}, which was not made before it.",
                "Its tool_call_id must be the id of an earlier tool call.",
            )


def _text_quality(example: Example, problems: Problems) -> None:
    text = "\n".join(m.content or "" for m in example.messages)
    if "\ufffd" in text:
        problems.warning(
            example.line, "replacement_character", "The text has � (U+FFFD): characters were lost in a conversion.",
            "Convert again from the source, with the right encoding.",
        )
    if hit := MOJIBAKE.search(text):
        problems.warning(
            example.line, "mojibake", f"The text has {hit.group()!r}: UTF-8 that was read as Windows-1252.",
            "Convert again from the source as UTF-8.",
        )
    if hit := CONTROL.search(text):
        problems.warning(
            example.line, "control_character", f"The text has the control character {hit.group()!r}.", "Remove it."
        )


def _between(examples: Sequence[Example], problems: Problems) -> None:
    """Exact duplicates, and the same prompt with different answers."""
    first_line: dict[ExampleId, int] = {}
    first_answer: dict[ExampleId, int] = {}
    for example in examples:
        prompt = Example(messages=example.prompt, tools=example.tools).id
        if example.id in first_line:
            problems.warning(
                example.line, "duplicate", f"The same example as line {first_line[example.id]}.",
                "Remove one: it counts twice in training.",
            )
            continue
        first_line[example.id] = example.line
        if prompt in first_answer:
            problems.warning(
                example.line, "conflicting_answer",
                f"The same prompt as line {first_answer[prompt]}, with another answer.",
                "Keep the better answer, unless both are wanted.",
            )
        else:
            first_answer[prompt] = example.line


def _outliers(examples: Sequence[Example], problems: Problems) -> None:
    lengths = [len(example.answer) for example in examples if example.messages]
    typical = median(lengths) if lengths else 0
    for example in examples:
        n = len(example.answer)
        if n > OUTLIER_CHARACTERS and n > OUTLIER_FACTOR * typical:
            problems.warning(
                example.line, "answer_length_outlier",
                f"The answer has {n:,} characters; the median is {typical:,.0f}.", "Check that it is one answer.",
            )


def _missing_system(examples: Sequence[Example], problems: Problems) -> None:
    """Only where others have one: training then mixes two kinds of prompts."""
    without = [example for example in examples if not _has_system(example.messages)]
    if len(without) in (0, len(examples)):
        return
    for example in without:
        problems.warning(
            example.line, "no_system_message", "No system message, though other examples have one.",
            "Use the prompt that the model will be called with.",
        )


def _has_system(messages: Conversation) -> bool:
    return any(m.role in ("system", "developer") for m in messages)


def grouped(findings: Sequence[Finding], first: int = 20) -> Iterator[tuple[str, list[Finding], int]]:
    """(code, its first findings, how many there are in all), errors before warnings: for a reader at a terminal."""
    by_code: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        by_code.setdefault((finding.level, finding.code), []).append(finding)
    for (_, code), members in sorted(by_code.items(), key=lambda item: item[0][0]):
        yield code, members[:first], len(members)
