"""Cleaning that is always safe, with every change counted."""
from collections.abc import Sequence
from dataclasses import dataclass

from feinschliff.core.chat import Example, ExampleId, Message


@dataclass(frozen=True, slots=True)
class Curation:
    """What `curate` did. `duplicates`: (removed line, line of the one kept)."""

    n_in: int
    n_out: int
    duplicates: tuple[tuple[int, int], ...]
    stripped: tuple[int, ...]  # lines whose assistant messages lost white space at an end

    @property
    def n_duplicates(self) -> int:
        return len(self.duplicates)


def curate(examples: Sequence[Example]) -> tuple[tuple[Example, ...], Curation]:
    """Without white space around answers, then without exact repetitions (the first stays). Order is kept."""
    first_line: dict[ExampleId, int] = {}
    kept: list[Example] = []
    duplicates: list[tuple[int, int]] = []
    stripped: list[int] = []
    for given in examples:
        example = given.model_copy(update={"messages": tuple(_stripped(m) for m in given.messages)})
        if example.messages != given.messages:
            stripped.append(example.line)
        if example.id in first_line:
            duplicates.append((example.line, first_line[example.id]))
            continue
        first_line[example.id] = example.line
        kept.append(example)
    return tuple(kept), Curation(len(examples), len(kept), tuple(duplicates), tuple(stripped))


def _stripped(message: Message) -> Message:
    """The indentation of a first line is kept where more lines follow: in code it means something."""
    if message.role != "assistant" or not message.content:
        return message
    text = message.content.rstrip()
    text = text.lstrip("\r\n") if "\n" in text else text.lstrip()
    return message if text == message.content else message.model_copy(update={"content": text})
