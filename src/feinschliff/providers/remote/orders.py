"""One job for one order: the same data, model and settings never start a second paid job, whatever is killed in between.

The order's key is a hash of all it says. It stands in the job's metadata and, as Azure's older versions keep none, in the name of the
training file. Before a job is made the account is searched for it; the call that makes it is never repeated blindly; and where two
processes made one each at the same moment, the younger one is cancelled while it waits.
"""
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from feinschliff.catalog.regions import Training
from feinschliff.core.chat import Wire
from feinschliff.core.errors import ProviderUnreachable
from feinschliff.core.finetune import TuningHyperparameters
from feinschliff.data.files import sha256_of
from feinschliff.providers.remote.account import Account
from feinschliff.providers.remote.failures import Conflicted
from feinschliff.providers.remote.shapes import RemoteFileId, RemoteJob, State

KEY = "feinschliff_key"
ATTEMPT = "feinschliff_attempt"
WAITS_S = (1.0, 4.0, 15.0, 60.0)  # between looking whether a job was made that nobody answered for; then asking again
TRAINING_TYPES = {"standard": "Standard", "global": "GlobalStandard", "developer": "Developer"}

Sent = Callable[[str, int, int], None]  # which file, bytes sent, bytes in all


class Order(Wire):
    """What is to be trained. `training` is Azure's type; orders of another `owner`, a job of a service say, are others."""

    model: str
    train: Path
    validation: Path | None = None
    suffix: str | None = None
    seed: int | None = None
    hyperparameters: TuningHyperparameters = TuningHyperparameters()
    training: Training | None = None
    owner: str = ""

    @property
    def key(self) -> str:
        """Of the files' contents, not of where they lie."""
        said = self.model_dump_json(exclude={"train", "validation", "owner"})
        parts = [said, sha256_of(self.train), sha256_of(self.validation) if self.validation else "", *filter(None, [self.owner])]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _silent(name: str, sent: int, size: int) -> None:
    pass


def find_job(account: Account, order: Order) -> RemoteJob | None:
    """The order's job as it stands, if one was made."""
    return _settled(account, _known(account, order.key))


def place(account: Account, order: Order, *, again: bool = False, sent: Sent = _silent) -> RemoteJob:
    """The order's job: the one that is there, or a new one. With `again`, one that failed or was cancelled is made anew.

    Raises BadData where a file is not taken, ProviderRefused, ProviderUnreachable; after any of them, call it again.
    """
    key = order.key
    known = _known(account, key)
    there = _settled(account, known)
    if there is not None and not (again and there.state in (State.FAILED, State.CANCELLED)):
        return there
    train = _upload(account, order.train, f"{key}-train.jsonl", sent)
    validation = None if order.validation is None else _upload(account, order.validation, f"{key}-valid.jsonl", sent)
    attempt = 1 + max([len(known), *(int((job.metadata or {}).get(ATTEMPT, 0)) for job in known)])
    extra = {"trainingType": TRAINING_TYPES[order.training]} if account.azure and order.training else {}

    def make() -> RemoteJob:
        return account.create_job(
            model=order.model, training_file=train, validation_file=validation, suffix=order.suffix, seed=order.seed,
            metadata={KEY: key, ATTEMPT: str(attempt)}, hyperparameters=order.hyperparameters,
            once=f"{key}-{attempt}", extra=extra,
        )  # fmt: skip

    made = _made_once(account, key, make, known)
    return _settled(account, [job for job in _known(account, key) if job not in known]) or made


def _upload(account: Account, path: Path, name: str, sent: Sent) -> RemoteFileId:
    size = path.stat().st_size
    return account.upload(path, name, lambda done: sent(path.name, done, size))


def _made_once(account: Account, key: str, make: Callable[[], RemoteJob], before: Sequence[RemoteJob]) -> RemoteJob:
    """Ask; where no answer comes, look whether there is a new job, several times, before asking again."""
    old = {job.id for job in before}
    for wait_s in (*WAITS_S, None):
        try:
            return make()
        except (ProviderUnreachable, Conflicted) as error:
            if wait_s is None:
                raise
            account.sleep(max(wait_s, error.retry_after_s if isinstance(error, ProviderUnreachable) else 0.0))
            new = [job for job in _known(account, key) if job.id not in old]
            if new:
                return new[-1]
    raise AssertionError("the last wait is None")


def _known(account: Account, key: str) -> list[RemoteJob]:
    """All jobs of this order, oldest first."""
    # Azure's older versions neither keep metadata nor filter by it.
    listed = list(account.jobs(None if account.azure else {KEY: key}))
    files: frozenset[str] = frozenset()
    if any(not job.metadata for job in listed):
        files = frozenset(file.id for file in account.files() if file.filename == f"{key}-train.jsonl")
    found = [job for job in listed if (job.metadata.get(KEY) == key if job.metadata else job.training_file in files)]
    return sorted(found, key=lambda job: (job.created_at, job.id))


def _settled(account: Account, jobs: Sequence[RemoteJob]) -> RemoteJob | None:
    """The one that counts: one that succeeded, else the oldest that goes on, else the last that ended. Its living twins are cancelled."""
    done = [job for job in jobs if job.state == State.SUCCEEDED]
    living = [job for job in jobs if not job.state.ended]
    chosen = (done or living or list(jobs[-1:]) or [None])[0]
    for twin in living:
        if chosen is not None and twin.id != chosen.id:
            account.change(twin.id, "cancel")
    return chosen
