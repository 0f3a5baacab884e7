"""Carries runs of evaluations out, on the server's event loop, where the models are.

A finished item is a row, written with the run's sums in one transaction, and its number is unique in the run; so after a kill, a
restarted server goes on with the items that have none. What was being answered at that moment is asked again.
"""
import asyncio
import contextlib
import itertools
import logging
from collections.abc import Iterator, Sequence

from pydantic import TypeAdapter

from feinschliff.app import evals as definitions
from feinschliff.app.asking import Models
from feinschliff.app.eval_items import lines
from feinschliff.app.eval_sample import Judging
from feinschliff.app.eval_tallies import ItemResult, Tallies
from feinschliff.app.grading import Grading
from feinschliff.app.service import Service, new_id
from feinschliff.core.errors import FeinschliffError
from feinschliff.core.eval_runs import DataSource, Line
from feinschliff.core.service import Caller, KeyId, ProjectId, RunStatus, Scope
from feinschliff.core.service_errors import Unavailable
from feinschliff.store import evals
from feinschliff.store.tables import EvalItemRow

log = logging.getLogger("feinschliff.evals")
SOURCE: TypeAdapter[DataSource] = TypeAdapter(DataSource)
AT_ONCE = 8  # items of one run that are asked about together; an engine answers many in one batch
LOOK_EVERY_S = 2.0  # for new runs, and whether one has been cancelled
REST_S = 5.0  # after an error that nobody foresaw


async def carry_out_runs(service: Service) -> None:
    """As long as the server runs: the oldest runs first, `running_evals` at a time."""
    going: dict[str, asyncio.Task[None]] = {}
    heard = 0
    try:
        while True:
            going = {run_id: task for run_id, task in going.items() if not task.done()}
            for run_id in await _open_runs(service):
                if run_id not in going and len(going) < service.settings.limits.running_evals:
                    going[run_id] = asyncio.create_task(_carry_out(service, run_id))
                    going[run_id].add_done_callback(lambda _: service.work.ring())
            heard = await asyncio.to_thread(service.work.wait, heard, LOOK_EVERY_S)
    finally:
        for task in going.values():
            task.cancel()
        await asyncio.gather(*going.values(), return_exceptions=True)


async def _carry_out(service: Service, run_id: str) -> None:
    try:
        await _judge_all(service, run_id)
    except Unavailable as error:  # the database or the disk: nothing is wrong with the run
        log.warning("run %s of an evaluation waits: %s", run_id, error.message)
        await asyncio.sleep(REST_S)
    except FeinschliffError as error:
        await asyncio.to_thread(_end, service, run_id, RunStatus.FAILED, error.code, f"{error.message} {error.hint}".strip())
    except Exception:  # the boundary of a task: whatever it was, other runs go on, and this one is tried again
        log.exception("run %s of an evaluation", run_id)
        await asyncio.sleep(REST_S)


async def _judge_all(service: Service, run_id: str) -> None:
    """Raises FeinschliffError for what no item can be judged without: the file, a model."""
    begun = await asyncio.to_thread(_begin, service, run_id)
    if begun is None:
        return
    judging, remaining = begun
    under_way: set[asyncio.Task[ItemResult]] = set()
    try:
        while True:
            for number, line in itertools.islice(remaining, AT_ONCE - len(under_way)):
                under_way.add(asyncio.create_task(judging.judge(number, line)))
            if not under_way:
                await asyncio.to_thread(_end, service, run_id, RunStatus.COMPLETED)
                return
            done, under_way = await asyncio.wait(under_way, timeout=LOOK_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
            results = [task.result() for task in done]
            if not await asyncio.to_thread(_record, service, run_id, results):
                return
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.to_thread(judging.grading.close)


async def _open_runs(service: Service) -> Sequence[str]:
    """None while the database cannot be reached."""

    def look() -> Sequence[str]:
        with service.database.read() as db:
            return evals.open_runs(db)

    try:
        return await asyncio.to_thread(look)
    except Unavailable as error:
        log.warning("evaluations wait: %s", error.message)
        return ()


def _begin(service: Service, run_id: str) -> tuple[Judging, Iterator[tuple[int, Line]]] | None:
    """What is still to be judged, and how; None where the run has been cancelled or deleted. Raises NotFound for the file."""
    with service.database.write() as db:
        row = evals.run_of(db, run_id)
        if row is None or RunStatus(row.status).ended:
            return None
        row.status = RunStatus.IN_PROGRESS
        caller = Caller(ProjectId(row.project_id), KeyId("service"), Scope.WRITE, row.id)
        criteria = definitions.criteria_of(definitions.existing(db, caller, row.eval_id))
        source, done = SOURCE.validate_python(row.source), evals.numbers_done(db, run_id)
    models = Models(service, caller)
    judging = Judging(source, criteria, models, Grading(models, python_s=service.settings.limits.python_grader_s))
    items = enumerate(lines(service, caller, source.source))
    return judging, ((number, line) for number, line in items if number not in done)


def _record(service: Service, run_id: str, results: Sequence[ItemResult]) -> bool:
    """False where the run has been cancelled or deleted: then nothing is written."""
    with service.database.write() as db:
        row = evals.run_of(db, run_id)
        if row is None or row.status != RunStatus.IN_PROGRESS:
            return False
        now = service.clock()
        for result in results:
            db.add(
                EvalItemRow(
                    id=new_id("outputitem_"), run_id=run_id, number=result.number, status=result.status, content=result.content, created_at=now
                )
            )
        if results:
            row.tallies = Tallies.model_validate(row.tallies).and_also(results).model_dump(mode="json")
    return True


def _end(service: Service, run_id: str, status: RunStatus, code: str = "", message: str = "") -> None:
    with service.database.write() as db:
        row = evals.run_of(db, run_id)
        if row is not None and not RunStatus(row.status).ended:
            row.status = status
            row.error = {"code": code, "message": message} if code else None
