"""One remote region's calls, each with retries, typed answers and errors, and what it cost in the ledger."""
import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from openai import NotFoundError, omit
from typing_extensions import override

from feinschliff.catalog.prices import Price
from feinschliff.core.errors import BadData, ProviderRefused
from feinschliff.core.finetune import TuningHyperparameters
from feinschliff.providers.remote.failures import told
from feinschliff.providers.remote.ledger import Ledger
from feinschliff.providers.remote.shapes import (
    RemoteCheckpoint,
    RemoteEvent,
    RemoteFile,
    RemoteFileId,
    RemoteJob,
    RemoteJobId,
)

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types.fine_tuning import SupervisedHyperparametersParam

MOST_BYTES = 512 << 20  # of a file, at either provider
PAGE = 100
PROCESSED = "processed"
FIRST_POLL_S, LAST_POLL_S = 0.5, 10.0  # from look to look, while nothing new is seen

OnProgress = Callable[[int], None]  # bytes sent
Verb = Literal["cancel", "pause", "resume"]


class _Counted(io.BufferedReader):
    """A file that tells how far it has been read; a retry starts again."""

    def __init__(self, path: Path, on_progress: OnProgress) -> None:
        super().__init__(io.FileIO(path))
        self._tell = on_progress

    @override
    def read(self, size: int | None = -1, /) -> bytes:
        piece = super().read(size)
        self._tell(self.tell())
        return piece


def _silent(done: int) -> None:
    pass


@dataclass
class Account:
    """`price` is of the model at hand; use it with `with`. Calls raise ProviderUnreachable and ProviderRefused."""

    name: str
    client: "OpenAI"
    ledger: Ledger
    azure: bool = False
    price: Price | None = None  # of the model at hand, where it is known
    poll_s: float = FIRST_POLL_S
    sleep: Callable[[float], None] = field(default=time.sleep)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def pauses(self) -> Iterator[float]:
        """Between looks; start anew when there was something to see."""
        pause_s = self.poll_s
        while True:
            yield pause_s
            pause_s = min(1.3 * pause_s, LAST_POLL_S)

    def files(self) -> Iterator[RemoteFile]:
        with told(self.name, "listing files"):
            for file in self.client.files.list(purpose="fine-tune"):
                yield RemoteFile.model_validate(file.to_dict(warnings=False))

    def upload(self, path: Path, name: str, on_progress: OnProgress = _silent) -> RemoteFileId:
        """Its id; a usable one of that name and size is taken as it is, so what was uploaded before a kill is not sent again.

        Raises BadData for one that is too large or that the provider finds faulty, ProviderUnreachable, ProviderRefused.
        """
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise BadData(f"{path} has {size:,} bytes; {self.name} takes {MOST_BYTES:,}.", hint="Train on fewer examples.")
        there = next((f for f in self.files() if f.filename == name and f.bytes in (None, size) and f.usable), None)
        if there is None:
            with told(self.name, f"uploading {path}"), _Counted(path, on_progress) as content:
                sent = self.client.files.create(file=(name, content, "application/jsonl"), purpose="fine-tune")
                there = RemoteFile.model_validate(sent.to_dict(warnings=False))
        on_progress(size)
        return self._processed(there, path)

    def _processed(self, file: RemoteFile, path: Path) -> RemoteFileId:
        """Azure takes jobs for files that have been looked at only."""
        pauses = self.pauses()
        while file.status != PROCESSED:
            if not file.usable:
                why = file.status_details or "The provider gives no reason."
                raise BadData(f"{self.name} does not take {path}: {why}", hint="feinschliff data check finds most faults before an upload.")
            self.sleep(next(pauses))
            with told(self.name, f"looking after the file {file.id}"):
                file = RemoteFile.model_validate(self.client.files.retrieve(file.id).to_dict(warnings=False))
        return file.id

    def jobs(self, metadata: Mapping[str, str] | None = None) -> Iterator[RemoteJob]:
        """Newest first. The filter is the provider's, who may not know it: look at what comes."""
        with told(self.name, "listing jobs"):
            for job in self.client.fine_tuning.jobs.list(limit=PAGE, metadata=dict(metadata) if metadata else omit):
                yield _job(job.to_dict(warnings=False))

    def create_job(
        self, *, model: str, training_file: RemoteFileId, validation_file: RemoteFileId | None, suffix: str | None, seed: int | None,
        metadata: dict[str, str], hyperparameters: TuningHyperparameters, once: str, extra: Mapping[str, str],
    ) -> RemoteJob:  # fmt: skip
        """Asked once, never retried here: who calls looks up whether it was made. `once` is the idempotency key."""
        chosen: SupervisedHyperparametersParam = {
            "n_epochs": hyperparameters.n_epochs, "batch_size": hyperparameters.batch_size,
            "learning_rate_multiplier": hyperparameters.learning_rate_multiplier,
        }  # fmt: skip
        with told(self.name, "creating the job"):
            made = self.client.with_options(max_retries=0).fine_tuning.jobs.create(
                model=model, training_file=training_file, metadata=metadata,
                method={"type": "supervised", "supervised": {"hyperparameters": chosen}},
                validation_file=validation_file or omit, suffix=suffix or omit, seed=omit if seed is None else seed,
                extra_headers={"Idempotency-Key": once}, extra_body=dict(extra) or None,
            )  # fmt: skip
            return _job(made.to_dict(warnings=False))

    def job(self, job_id: RemoteJobId) -> RemoteJob:
        with told(self.name, f"looking after the job {job_id}"):
            return _job(self.client.fine_tuning.jobs.retrieve(job_id).to_dict(warnings=False))

    def change(self, job_id: RemoteJobId, verb: Verb) -> RemoteJob:
        """Cancel, pause or resume. Doing it twice does no harm, so it is retried as other calls are."""
        with told(self.name, f"asking the job {job_id} to {verb}"):
            jobs = self.client.fine_tuning.jobs
            changed = {"cancel": jobs.cancel, "pause": jobs.pause, "resume": jobs.resume}[verb](job_id)
            return _job(changed.to_dict(warnings=False))

    def events(self, job_id: RemoteJobId, known: frozenset[str] = frozenset()) -> Sequence[RemoteEvent]:
        """Those that came after the `known` ones, oldest first."""
        new: list[RemoteEvent] = []
        with told(self.name, f"reading the events of {job_id}"):
            for event in self.client.fine_tuning.jobs.list_events(job_id, limit=PAGE):
                if event.id in known:
                    break
                new.append(RemoteEvent.model_validate(event.to_dict(warnings=False)))
        return new[::-1]

    def checkpoints(self, job_id: RemoteJobId) -> Sequence[RemoteCheckpoint]:
        """By step."""
        with told(self.name, f"reading the checkpoints of {job_id}"):
            found = [RemoteCheckpoint.model_validate(c.to_dict(warnings=False)) for c in self.client.fine_tuning.jobs.checkpoints.list(job_id)]
        return sorted(found, key=lambda c: c.step_number)

    def delete_model(self, model: str) -> bool:
        """False where it was gone already."""
        return self._gone(lambda: self.client.with_options(max_retries=1).models.delete(model), f"deleting the model {model}")

    def delete_file(self, file_id: RemoteFileId) -> bool:
        return self._gone(lambda: self.client.files.delete(file_id), f"deleting the file {file_id}")

    def _gone(self, delete: Callable[[], object], doing: str) -> bool:
        with told(self.name, doing):
            try:
                delete()
            except NotFoundError:
                return False
        return True


def _job(shape: dict[str, object]) -> RemoteJob:
    return RemoteJob.model_validate(shape)


def tuned_name(job: RemoteJob, region: str) -> str:
    """Of a job that succeeded. Raises ProviderRefused where the provider does not say."""
    if job.fine_tuned_model is None:
        raise ProviderRefused(f"{region}: the job {job.id} is {job.status} and has no model.", hint="Wait until it has succeeded.")
    return job.fine_tuned_model
