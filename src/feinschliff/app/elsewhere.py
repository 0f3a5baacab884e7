"""Jobs of the service at a provider. They go on there whether or not anything here follows them: so what is paused or cancelled here
is told there, again and again until it was heard, whatever is killed meanwhile (ADR 18).

`RUN/elsewhere` stands from before the job can be there until its end is known; it says whether the job there is paused.
"""
import subprocess
import time
from dataclasses import dataclass
from typing import Literal, NamedTuple

from feinschliff.app import jobs
from feinschliff.app.job_budgets import price_there
from feinschliff.app.remote_admission import RemotePlace, remote_place
from feinschliff.app.service import Service
from feinschliff.compute import process
from feinschliff.core.errors import FeinschliffError
from feinschliff.core.service import JobStatus
from feinschliff.core.service_errors import is_full
from feinschliff.data.files import write_text
from feinschliff.providers.remote.standing import Answer, AtProvider, Standing, Verb, answer_file
from feinschliff.providers.training_runs import TrainingRuns
from feinschliff.store import job_usage
from feinschliff.store import jobs as rows
from feinschliff.store.database import Session
from feinschliff.store.tables import JobRow

MARK = "elsewhere"
GOES_ON, RESTS = "goes on", "rests"
FIRST_AGAIN_S, LAST_AGAIN_S = 10.0, 600.0  # until a provider that was not reached is told again
STOP_S = 1.0  # of a program that only asks: it is asked again
Place = tuple[str, RemotePlace]
Order = Literal["cancel", "pause"]


class _Waits(NamedTuple):
    until: float  # by the monotonic clock
    pause_s: float


@dataclass(slots=True)
class _Telling:
    """A process that tells a job there what is wanted."""

    verb: Order
    process: "subprocess.Popen[str]"


class Elsewhere:
    """Used by the thread that carries jobs out."""

    def __init__(self, service: Service, runs: TrainingRuns) -> None:
        self._service, self._runs = service, runs
        self._telling: dict[str, _Telling] = {}
        self._waits: dict[str, _Waits] = {}

    def follow(self, job: JobRow, place: Place) -> AtProvider:
        """What follows the job there, or makes it first."""
        write_text(self._runs.folder(job.id) / MARK, GOES_ON)
        return AtProvider(self._standing(job, place, "follow"))

    def step(self) -> bool:
        """Tell what is to be told; False where nothing changed."""
        marks = sorted(self._runs.root.glob(f"*/{MARK}"))
        if not marks:
            return False
        with self._service.database.read() as db:
            found = {mark: rows.job_of(db, mark.parent.name) for mark in marks}
        changed = False
        for mark, job in found.items():
            if job is None or job.status == JobStatus.SUCCEEDED:
                mark.unlink()
            elif (verb := _wanted(job)) is not None and not (verb == "pause" and mark.read_text(encoding="utf-8") == RESTS):
                changed |= self._tell_if_room(job, verb)
            else:
                self._leave_off(job.id)
        return changed

    def stop(self) -> None:
        """At the server's end; what was not heard is told after the next start."""
        for job_id in list(self._telling):
            self._leave_off(job_id)

    def _tell_if_room(self, job: JobRow, verb: Order) -> bool:
        """On a full disk what was heard cannot be kept: it is told again later, and other jobs go on meanwhile."""
        try:
            return self._tell(job, verb)
        except (FeinschliffError, OSError) as error:
            if not is_full(error):
                raise
            self._later(job.id)
            return False

    def _tell(self, job: JobRow, verb: Order) -> bool:
        telling = self._telling.get(job.id)
        if telling is not None and telling.verb != verb:
            self._leave_off(job.id)
            telling = None
        if telling is None:
            if (waits := self._waits.get(job.id)) is not None and time.monotonic() < waits.until:
                return False
            if (place := self._place(job)) is None:
                return False
            self._runs.stop(job.id)
            answer_file(self._runs.folder(job.id), verb).unlink(missing_ok=True)
            program = AtProvider(self._standing(job, place, verb))
            self._telling[job.id] = _Telling(verb, program.start(job.id, "", [], self._runs.folder(job.id) / "log.txt"))
            return True
        if telling.process.poll() is None:
            return False
        del self._telling[job.id]
        answer = answer_file(self._runs.folder(job.id), verb)
        if not answer.is_file():
            return self._not_heard(job)
        self._heard(job, verb, Answer.model_validate_json(answer.read_text(encoding="utf-8")))
        self._waits.pop(job.id, None)
        return True

    def _later(self, job_id: str) -> None:
        before = self._waits.get(job_id)
        pause_s = FIRST_AGAIN_S if before is None else min(2 * before.pause_s, LAST_AGAIN_S)
        self._waits[job_id] = _Waits(time.monotonic() + pause_s, pause_s)

    def _not_heard(self, job: JobRow) -> bool:
        self._later(job.id)
        why = process.last_lines(self._runs.folder(job.id) / "log.txt")
        with self._service.database.write() as db:
            if (row := rows.job_of(db, job.id)) is not None:
                jobs.warn(self._service, db, row, [f"The job's region was not reached and is asked again: {why}"])
        return True

    def _heard(self, job: JobRow, verb: Order, answer: Answer) -> None:
        """First what is told of it, then the mark, so that a kill in between tells it once more, which is telling it once."""
        with self._service.database.write() as db:
            row = rows.job_of(db, job.id)
            if row is not None and _wanted(row) == verb:
                self._note(db, row, answer)
        mark = self._runs.folder(job.id) / MARK
        if verb == "cancel":
            mark.unlink()
        else:
            write_text(mark, RESTS)

    def _note(self, db: Session, row: JobRow, answer: Answer) -> None:
        usage = job_usage.usage_of(db, row.id)
        if row.status == JobStatus.CANCELLED and usage is not None:
            usage.tokens = row.trained_tokens = answer.trained_tokens
        said = _words(row, answer, "its region" if usage is None else usage.region)
        if said:
            jobs.warn(self._service, db, row, [said])

    def _leave_off(self, job_id: str) -> None:
        self._waits.pop(job_id, None)
        if (telling := self._telling.pop(job_id, None)) is not None:
            process.stop(telling.process, grace_s=STOP_S)

    def _place(self, job: JobRow) -> Place | None:
        """None where its region is no longer configured, or is another's now: nobody can be told."""
        with self._service.database.read() as db:
            usage = job_usage.usage_of(db, job.id)
        market = self._service.market
        try:
            return None if usage is None else remote_place(market.regions, usage.region, market)
        except FeinschliffError:
            return None

    def _standing(self, job: JobRow, place: Place, verb: Verb) -> Standing:
        region, where = place
        return Standing(
            verb=verb, folder=self._runs.folder(job.id).resolve(), job=job.id, region=region, place=where, model=job.model, suffix=job.suffix,
            price=price_there(self._service, where, job.model), ledger=(self._service.settings.data_dir / "remote" / f"{region}.jsonl").resolve(),
        )  # fmt: skip


def _wanted(job: JobRow) -> Order | None:
    """What a job there is to do other than go on. Of a failed one the job there may go on: if it has ended, cancelling does no harm."""
    match JobStatus(job.status):
        case JobStatus.CANCELLED | JobStatus.FAILED:
            return "cancel"
        case JobStatus.PAUSED:
            return "pause"
        case _:
            return None


def _words(job: JobRow, answer: Answer, region: str) -> str:
    if answer.refused:
        return f"{region} does not pause the job, which goes on there: {answer.refused}"
    if job.status != JobStatus.PAUSED and answer.state == JobStatus.SUCCEEDED:
        return f"The job had succeeded in {region} before it was told to end; its model there is {answer.model}."
    if job.status == JobStatus.CANCELLED and answer.trained_tokens:
        return f"{region} had trained {answer.trained_tokens:,} tokens by then, which it may charge."
    return ""
