"""The seams: every Protocol the application is written against, and the values that cross them."""
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from feinschliff.core.chat import Conversation, Example
from feinschliff.core.jobs import JobId, TrainEvent, TrainSpec
from feinschliff.core.service import JobStatus

if TYPE_CHECKING:
    import subprocess


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. Token counts are the model's own; `latency_ms` is set only where the request ran alone."""

    text: str
    input_tokens: int
    output_tokens: int
    finish_reason: str = "stop"  # "stop" | "length"
    latency_ms: float | None = None


class Responder(Protocol):
    """Anything that answers chats: a base model, a prompted one, one with retrieval, a tuned one, a deployment.

    Batches are first class, because an answer must not depend on when its neighbours arrive: the same batch
    gives the same replies, which makes a killed study resume to the same report (ADR 2). Replies come in the order of the conversations.
    """

    async def __call__(self, conversations: Sequence[Conversation], /) -> Sequence[Reply]: ...


@dataclass(frozen=True, slots=True)
class Score:
    """A grade in [0, 1] where higher is better, or a scale the grader documents; `why` explains it to a reader."""

    value: float
    why: str = ""
    label: str = ""  # what the answer was taken to say, for label metrics


@dataclass(frozen=True, slots=True)
class GraderFailure:
    """The grader itself broke. Recorded and counted; never a zero and never a crash."""

    error: str


class Grader(Protocol):
    """Scores one reply to one example."""

    def __call__(self, example: Example, reply: Reply, /) -> Score | GraderFailure: ...


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric: its value, its 95 % interval, and over how many examples."""

    value: float
    low: float
    high: float
    n: int


class Metric(Protocol):
    """Summarises many scores."""

    def __call__(self, scores: Sequence[Score], /) -> Estimate: ...


@dataclass(frozen=True, slots=True)
class Passage:
    text: str
    source: str  # file, and heading where there is one
    score: float


class Retriever(Protocol):
    def __call__(self, queries: Sequence[str], /, *, k: int) -> Sequence[Sequence[Passage]]:
        """For each query its `k` best passages, best first."""
        ...


class Embedder(Protocol):
    def __call__(self, texts: Sequence[str], /) -> NDArray[np.float32]:
        """(n, d) float32, rows of unit length."""
        ...


class Compute(Protocol):
    """A place where a program of ours runs (`python -m module`), on folders that it shares with this machine."""

    def start(self, name: str, module: str, arguments: Sequence[str], log: Path, /) -> "subprocess.Popen[str]":
        """A process of this machine that is the program or stands for it: ends when that ends, with its code (or UNREACHABLE), and ends it
        when it is asked to. Where it is killed, the same name again goes on with the program.
        """
        ...


class Trainer(Protocol):
    """Runs specs, several of them over one copy of their base where it can. The same job id again resumes at its last saved state."""

    def run(self, specs: Mapping[JobId, TrainSpec], /) -> AsyncIterator[tuple[JobId, TrainEvent]]:
        """Every job's events from its beginning, each with whose it is; those of one job are in order."""
        ...


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """A job as an experiment tracker is told of it. `job` is its id, by which the tracker's run is found again."""

    job: str
    project: str
    config: Mapping[str, str | int | float]  # model, files, seed, hyperparameters


@dataclass(frozen=True, slots=True)
class TrackedStep:
    """What was measured in a training step, 1-based; `at` in Unix seconds."""

    step: int
    at: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended: succeeded, failed or cancelled, and its model where there is one."""

    status: JobStatus
    model: str | None


class Tracker(Protocol):
    """One job's run at an experiment tracker. May raise anything: it is other people's software and network.

    Whoever feeds it may be killed at any moment. So the run itself says what has arrived: `begin` makes it, or finds the job's
    run again, and returns the last step that it holds.
    """

    def begin(self) -> int:
        """0 where the run holds no step yet."""
        ...

    def log(self, steps: Sequence[TrackedStep], /) -> None:
        """Steps after those that the run holds, in order."""
        ...

    def end(self, outcome: Outcome, /) -> None:
        """No step follows. Telling it twice is telling it once."""
        ...

    def close(self) -> None:
        """Leave off, at the server's end; the run goes on with the next `begin`."""
        ...


class Traces(Protocol):
    """Where spans of distributed traces go. A place in a trace is a W3C `traceparent`."""

    def here(self) -> str | None:
        """Of the request that is being answered."""
        ...

    def tell(
        self, name: str, began_s: float, ended_s: float, attributes: Mapping[str, str | int | float], parent: str | None = None, /
    ) -> str | None:
        """A span that is over, below `parent` or else below the present request; its own place. Times in Unix seconds."""
        ...

    def close(self) -> None:
        """At the server's end: send what is left."""
        ...


class NoTraces:
    """Nobody asked for traces."""

    def here(self) -> str | None:
        return None

    def tell(
        self, name: str, began_s: float, ended_s: float, attributes: Mapping[str, str | int | float], parent: str | None = None, /
    ) -> str | None:
        return None

    def close(self) -> None:
        """There is nothing left."""
