"""Jobs' metrics on their way to experiment trackers: told step by step from the job's events, and never in the job's way.

The trackers' runs say themselves what has arrived (`core.ports.Tracker`), so a kill at any moment loses nothing and repeats
nothing. What a tracker cannot take is a warning among the job's events, once; it is tried again until a day after the job's end.
"""
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from feinschliff.app import jobs
from feinschliff.app.service import Service
from feinschliff.core.finetune import Integration, NewJob
from feinschliff.core.ports import Outcome, TrackedRun, TrackedStep, Tracker
from feinschliff.core.service import JobStatus
from feinschliff.providers.trackers.opening import REMEDIES
from feinschliff.store import integrations
from feinschliff.store import jobs as rows
from feinschliff.store.tables import EventRow, JobRow

log = logging.getLogger("feinschliff.integrations")
AGAIN_S = 60.0  # after a failure
GIVE_UP_S = 24 * 3600  # after the job's end
LONGEST_WHY = 300  # characters of somebody else's error message
_PASSWORD = re.compile(r"//[^/@\s]+@")
_Key = tuple[str, int]  # job, number of its integration


class _Opens(Protocol):
    def open(self, integration: Integration, run: TrackedRun, /) -> Tracker: ...


@dataclass(slots=True)
class _Followed:
    """A tracker that has begun; `step` is the last one it holds, `seq` the last event that was looked at for it."""

    tracker: Tracker
    step: int
    seq: int = 0


class Forwarding:
    """The background work on all integrations. One thread calls `step`."""

    def __init__(self, service: Service, trackers: _Opens, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._service, self._trackers, self._clock_s = service, trackers, clock_s
        self._followed: dict[_Key, _Followed] = {}
        self._again_at: dict[_Key, float] = {}

    def step(self) -> bool:
        """Tell every tracker what is new; False where nothing was."""
        with self._service.database.read() as db:
            waiting = integrations.open_ones(db)
        changed = False
        for job, number in waiting:
            changed |= self._try(job, number)
        return changed

    def stop(self) -> None:
        """At the server's end."""
        for followed in self._followed.values():
            try:
                followed.tracker.close()
            except Exception:  # other people's software
                log.exception("a tracker could not be closed")
        self._followed.clear()

    def _try(self, job: JobRow, number: int) -> bool:
        key = (job.id, number)
        if self._clock_s() < self._again_at.get(key, 0.0):
            return False
        integration = NewJob.model_validate(job.request).integrations[number]
        try:
            return self._forward(job, key, integration)
        except Exception as error:  # other people's software and network: none of it may touch the job
            log.warning("integration %s of %s: %s", integration.type, job.id, _told(error), exc_info=not isinstance(error, OSError))
            self._failed(job, key, integration, error)
            return False

    def _forward(self, job: JobRow, key: _Key, integration: Integration) -> bool:
        """Everything but the newest step, to whose event a validation may still be added."""
        ended = JobStatus(job.status).ended
        followed = self._followed.get(key)
        with self._service.database.read() as db:
            found = integrations.steps_after(db, job.id, followed.seq if followed else 0)
        found = found if ended else found[:-1]
        if not found and not ended:
            return False
        if followed is None:
            tracker = self._trackers.open(integration, _run(job))
            followed = self._followed[key] = _Followed(tracker, tracker.begin())
        new = [step for step in map(_step, found) if step.step > followed.step]
        if new:
            followed.tracker.log(new)
            followed.step = new[-1].step
        if found:
            followed.seq = found[-1].seq
        if ended:
            followed.tracker.end(Outcome(JobStatus(job.status), job.fine_tuned_model))
            self._done(key)
        return True

    def _failed(self, job: JobRow, key: _Key, integration: Integration, error: Exception) -> None:
        self._followed.pop(key, None)  # what it holds is asked anew
        self._again_at[key] = self._clock_s() + AGAIN_S
        name = f"integration-{key[1]}-failed"
        with self._service.database.write() as db:
            row = rows.job_of(db, job.id)
            if row is not None and not rows.told(db, job.id, {name}):
                why = f"The integration {integration.type} does not work, and the job goes on without it: {_told(error)}"
                again = "It is tried again every minute, and gets all steps then."
                jobs.tell(self._service, db, row, name, f"{why} {REMEDIES[integration.type]} {again}", level="warn")
        if job.finished_at is not None and self._service.clock() - job.finished_at > GIVE_UP_S:
            self._done(key)

    def _done(self, key: _Key) -> None:
        self._followed.pop(key, None)
        self._again_at.pop(key, None)
        with self._service.database.write() as db:
            integrations.remove(db, *key)


def _run(job: JobRow) -> TrackedRun:
    config: dict[str, str | int | float] = {
        "model": job.model, "training_file": job.training_file, "seed": job.seed, **job.hyperparameters,
    }  # fmt: skip
    given = {"validation_file": job.validation_file, "suffix": job.suffix}
    return TrackedRun(job.id, job.project_id, config | {k: v for k, v in given.items() if v is not None})


def _step(event: EventRow) -> TrackedStep:
    metrics = {k: float(v) for k, v in event.data.items() if k not in ("step", "total_steps") and isinstance(v, int | float)}
    return TrackedStep(int(event.data["step"]), event.created_at, metrics)


def _told(error: Exception) -> str:
    """Its first line, without a password that an address may hold."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return _PASSWORD.sub("//…@", lines[0])[:LONGEST_WHY].rstrip(".") + "."
