"""`python -m feinschliff.providers.remote.program STANDING`: follow a job at its provider, or tell it something.

Followed, the job is found by its key, or made, and its events become lines of `events.jsonl`, as the training program here writes them.
Ending this process never ends the job. Exit: UNREACHABLE where the provider gives no answer, or none that would stay as it is.
"""
import asyncio
import sys

from pydantic import ValidationError

from feinschliff.catalog.regions import Azure
from feinschliff.compute import process
from feinschliff.core.errors import (
    FeinschliffError,
    ProviderRefused,
    ProviderUnreachable,
    RegionNotConfigured,
    TrainingFailed,
)
from feinschliff.core.jobs import Failed, Finished, JobId, TrainSpec
from feinschliff.data.files import locked, write_text
from feinschliff.providers.remote.account import Account
from feinschliff.providers.remote.connect import connect
from feinschliff.providers.remote.ledger import Ledger
from feinschliff.providers.remote.orders import Order, find_job
from feinschliff.providers.remote.shapes import RemoteJob, State
from feinschliff.providers.remote.standing import Answer, Standing, answer_file
from feinschliff.providers.remote.trainer import EVENTS, Log, RemoteTrainer, Task, order_of

LOOKS_S = (0.0, 1.0, 4.0)  # for a job that whoever was killed may just have made
MOST_LOOKS = 30  # for a job that was cancelled and has not ended yet


def main(standing: Standing) -> int:
    place, ledger = standing.place, Ledger(standing.ledger)
    try:
        with Account(standing.region, connect(standing.region, place), ledger, azure=isinstance(place, Azure), price=standing.price) as account:
            if standing.verb == "follow":
                with locked(standing.folder / "following.lock"):
                    asyncio.run(_follow(account, standing))
            else:
                write_text(answer_file(standing.folder, standing.verb), _told(account, standing).model_dump_json())
    except (ProviderUnreachable, ProviderRefused, RegionNotConfigured) as error:  # keys and addresses can be mended
        sys.stderr.write(f"{error.message} {error.hint}\n")
        return process.UNREACHABLE
    except ValidationError as error:  # a job that is paid for is not ended because its provider writes something new
        first = error.errors()[0]
        sys.stderr.write(f"{standing.region}: {error.title} cannot be read: {'.'.join(map(str, first['loc']))}: {first['msg']}.\n")
        return process.UNREACHABLE
    return 0


async def _follow(account: Account, standing: Standing) -> None:
    """To its end. What keeps the job from being made is its failure; once it is made, it is waited for."""
    log = Log(standing.folder / EVENTS)
    if isinstance(log.last, Failed | Finished):
        return
    spec, task = _spec(standing), _task(standing)
    there: RemoteJob | None = None
    try:
        there = find_job(account, order_of(standing.folder, spec, task)[0])
        if there is not None and there.state == State.PAUSED:
            account.change(there.id, "resume")
        async for _ in RemoteTrainer(standing.folder.parent, account, task).run({JobId(standing.folder.name): spec}):
            pass
    except TrainingFailed:
        pass  # the log says so
    except ProviderUnreachable:
        raise
    except FeinschliffError as error:
        log = Log(standing.folder / EVENTS)
        if isinstance(error, ProviderRefused) and (there is not None or log.events):
            raise
        log.append(Failed(code=error.code, message=error.message, hint=error.hint))


def _told(account: Account, standing: Standing) -> Answer:
    """What came of telling the job to cancel or to pause. Raises ProviderUnreachable, ProviderRefused: tell it again."""
    job = _found(account, order_of(standing.folder, _spec(standing), _task(standing))[0])
    if job is None:
        return Answer(state=None)
    verb, refused = "pause" if standing.verb == "pause" else "cancel", ""
    if not (job.state.ended or (verb == "pause" and job.state == State.PAUSED)):
        try:
            job = account.change(job.id, verb)
        except ProviderRefused as error:
            job = account.job(job.id)  # it may have ended at that moment
            if verb == "cancel" and not job.state.ended:
                raise
            refused = "" if job.state.ended else error.message
    job = _ended(account, job) if verb == "cancel" else job
    return Answer(state=job.state, trained_tokens=job.trained_tokens or 0, model=job.fine_tuned_model, refused=refused)


def _found(account: Account, order: Order) -> RemoteJob | None:
    for wait_s in LOOKS_S:
        account.sleep(wait_s)
        if (job := find_job(account, order)) is not None:
            return job
    return None


def _ended(account: Account, job: RemoteJob) -> RemoteJob:
    """Raises ProviderUnreachable where it goes on."""
    for pause_s, _ in zip(account.pauses(), range(MOST_LOOKS), strict=False):
        if job.state.ended:
            return job
        account.sleep(pause_s)
        job = account.job(job.id)
    raise ProviderUnreachable(f"{account.name}: the job {job.id} was cancelled, and is still {job.status}.")


def _spec(standing: Standing) -> TrainSpec:
    return TrainSpec.model_validate_json((standing.folder / "spec.json").read_text(encoding="utf-8"))


def _task(standing: Standing) -> Task:
    training = standing.place.training if isinstance(standing.place, Azure) else None
    return Task(model=standing.model, training=training, suffix=standing.suffix, owner=standing.job)


if __name__ == "__main__":
    sys.exit(main(Standing.model_validate_json(sys.argv[1])))
