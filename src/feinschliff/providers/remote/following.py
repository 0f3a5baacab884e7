"""One remote job, watched: what is new of it at each look, as our events, until it has ended."""
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field

from feinschliff.catalog.billing import JobRecord, Period, hosted_charge
from feinschliff.core.errors import NoPrice
from feinschliff.core.jobs import Checkpoint, Failed, Finished, Started, Step, TrainEvent
from feinschliff.providers.remote.account import Account
from feinschliff.providers.remote.events import Mapping, key_of, started
from feinschliff.providers.remote.ledger import Entry
from feinschliff.providers.remote.shapes import RemoteJob, RemoteJobId, State

MODEL = "model"  # in a run's folder: where the finished model, or the name of it, lies
FAILED = {State.FAILED: "remote_failed", State.CANCELLED: "remote_cancelled"}


@dataclass
class Following:
    """`told` are the keys of what an earlier process has said already."""

    account: Account
    job: RemoteJob
    mapping: Mapping
    told: set[str] = field(default_factory=set)
    on_checkpoint: Callable[[int, str], None] = lambda step, model: None
    _waiting: list[TrainEvent] = field(default_factory=list)  # read, but not told, as the look broke off
    _seen: frozenset[str] = frozenset()
    _last_step: int = 0
    _started: Started | None = None

    @property
    def id(self) -> RemoteJobId:
        return self.job.id

    def look(self) -> list[TrainEvent]:
        """What is new, in order; the last of all is Finished or Failed. Raises ProviderUnreachable: look again later."""
        self.job = self.account.job(self.id)  # asked before the events, so that none from before its end is missed
        self._waiting += self._new_events()
        new = [*self._waiting, *(self._end() if self.job.state.ended else ())]
        self._waiting = []
        fresh = [event for event in new if key_of(event) not in self.told]
        self.told |= {key_of(event) for event in fresh}
        return fresh

    def _new_events(self) -> list[TrainEvent]:
        found = self.account.events(self.id, self._seen)
        self._seen |= {event.id for event in found}
        new = [ours for event in found for ours in self.mapping.of(event)]
        steps = [event.step for event in new if isinstance(event, Step)]
        self._last_step = max([self._last_step, *steps])
        self._started = next((event for event in new if isinstance(event, Started)), self._started)
        return new

    def _end(self) -> list[TrainEvent]:
        job, state = self.job, self.job.state
        self._record(state)
        if state in FAILED:
            why = job.why if state == State.FAILED else "It was cancelled."
            return [Failed(code=FAILED[state], message=why, hint=f"The job is {job.id} in {self.account.name}.")]
        checkpoints = self.account.checkpoints(self.id)
        for checkpoint in checkpoints:
            self.on_checkpoint(checkpoint.step_number, checkpoint.fine_tuned_model_checkpoint)
        self._last_step = max([self._last_step, *(c.step_number for c in checkpoints)])
        events: list[TrainEvent] = [Checkpoint(step=c.step_number, path=checkpoint_folder(c.step_number)) for c in checkpoints]
        if self._started is None:
            events.insert(0, started(self._last_step, 0))
        return [
            *events,
            Finished(step=self._last_step, trained_tokens=job.trained_tokens or 0, path=MODEL, seconds=self.seconds, peak_memory_bytes=0),
        ]

    @property
    def seconds(self) -> float:
        """From its making to its end, time in the queue included: no provider tells when training began."""
        return float(max(0, (self.job.finished_at or self.job.created_at) - self.job.created_at))

    def _record(self, state: State) -> None:
        """Once: whoever sees the end first."""
        before = self.account.ledger.job(self.id)
        if before is not None and before.state == state:
            return
        tokens = self.job.trained_tokens or 0
        record = JobRecord(
            outcome="failed" if state == State.FAILED else "cancelled" if state == State.CANCELLED else "succeeded",
            periods=(Period(phase="running", seconds=self.seconds),) if tokens or state == State.SUCCEEDED else (), trained_tokens=tokens,
        )  # fmt: skip
        self.account.ledger.add(training_entry(self.account, self.job, record, tokens))


def training_entry(account: Account, job: RemoteJob, record: JobRecord, tokens: int) -> Entry:
    """What a job costs, or will, as far as prices are known."""
    money: float | None = None
    if account.price is not None:
        with suppress(NoPrice):
            money = hosted_charge(account.price, record)
    currency = account.price.currency if account.price else "USD"
    at = account.ledger.clock()
    return Entry(at=at, kind="training", model=job.model, trained_tokens=tokens, money=money, currency=currency, job=job.id, state=job.state)


def expect(account: Account, job: RemoteJob, tokens: int) -> None:
    """Put a new job down for the budget with what it is expected to train; one that is known already stays as it is."""
    if account.ledger.job(job.id) is None:
        record = JobRecord(outcome="running", periods=(Period(phase="running", seconds=1.0),), trained_tokens=tokens)
        account.ledger.add(training_entry(account, job, record, tokens))


def checkpoint_folder(step: int) -> str:
    return f"checkpoints/step-{step}"


def told_keys(events: Collection[TrainEvent]) -> set[str]:
    return {key_of(event) for event in events}
