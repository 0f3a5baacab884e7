"""Embedding models of this machine for many askers at once: one program each, started when first asked."""
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from tokenizers import Tokenizer

from feinschliff.core.errors import ProgramFailed
from feinschliff.providers.engine import Program


@dataclass(slots=True)
class Embedders:
    """Programs by model folder. Blocks: call it from a thread."""

    logs: Path
    _programs: dict[Path, tuple[Program, Tokenizer]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def __call__(self, folder: Path, texts: Sequence[str]) -> tuple[list[tuple[float, ...]], int]:
        """A vector of unit length for each text, and how many tokens they have. A program that has died is started anew.

        Raises ProgramFailed where it dies again, and what it refuses to load the model with.
        """
        try:
            return self._ask(folder, texts)
        except ProgramFailed:
            self._forget(folder)
            return self._ask(folder, texts)

    def close(self) -> None:
        for folder in list(self._programs):
            self._forget(folder)

    def _ask(self, folder: Path, texts: Sequence[str]) -> tuple[list[tuple[float, ...]], int]:
        with self._lock:
            if folder not in self._programs:
                program = Program(folder, self.logs / f"embedding-{folder.name}.log", embedding=True)
                self._programs[folder] = program, Tokenizer.from_file(str(folder / "tokenizer.json"))
            program, tokenizer = self._programs[folder]
        return program.embed(texts), sum(len(encoding.ids) for encoding in tokenizer.encode_batch(list(texts)))

    def _forget(self, folder: Path) -> None:
        with self._lock:
            gone = self._programs.pop(folder, None)
        if gone is not None:
            gone[0].close()
