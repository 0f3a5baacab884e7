"""Watches a transformers Trainer: seconds and loss of each optimizer step, examples and tokens of each batch."""
import time
from collections.abc import Callable
from typing import Any

from job import Measured
from transformers import TrainerCallback


class Watch(TrainerCallback):
    """Times from the beginning of a step to its end: forward, backward, clipping, update; not the making of batches."""

    def __init__(self, measured: Measured) -> None:
        self.measured = measured
        self.begun = 0.0

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 – transformers' signature
        self.measured.settle()
        self.begun = time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        self.measured.settle()
        self.measured.seconds.append(time.perf_counter() - self.begun)
        self.measured.note_memory()

    def on_log(self, *args: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:  # noqa: ANN401
        if logs and "loss" in logs:
            self.measured.losses.append(float(logs["loss"]))


def counting(collate: Callable[[list[Any]], Any], measured: Measured, accumulate: int) -> Callable[[list[Any]], Any]:
    """`collate`, counting what it makes; `accumulate` batches are one step."""
    calls = 0

    def collate_and_count(examples: list[Any]) -> Any:  # noqa: ANN401
        nonlocal calls
        batch = collate(examples)
        n = sum(len(e["seq_lengths"]) if "seq_lengths" in e else 1 for e in examples)
        tokens = int(batch["input_ids"].numel())
        if calls % accumulate == 0:
            measured.examples.append(n)
            measured.computed_tokens.append(tokens)
        else:
            measured.examples[-1] += n
            measured.computed_tokens[-1] += tokens
        calls += 1
        return batch

    return collate_and_count
