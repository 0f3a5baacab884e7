"""A `[hosted.NAME]` of a study: a region's model that answers, is tuned there, and answers again."""
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from feinschliff.catalog.prices import Price
from feinschliff.catalog.regions import Azure, OpenAi
from feinschliff.core.chat import Wire
from feinschliff.core.engine import Sampling
from feinschliff.core.errors import ProviderRefused
from feinschliff.core.hosted import Spending
from feinschliff.core.ports import Responder, Trainer
from feinschliff.core.study import Prices
from feinschliff.data.files import write_text
from feinschliff.providers.remote.account import Account
from feinschliff.providers.remote.deploying import Deployments
from feinschliff.providers.remote.following import MODEL
from feinschliff.providers.remote.kept import KeptAnswers
from feinschliff.providers.remote.ledger import Entry, Ledger
from feinschliff.providers.remote.named import read_remote
from feinschliff.providers.remote.responder import RemoteResponder
from feinschliff.providers.remote.trainer import RemoteTrainer, Task

PATIENCE_S = 900.0  # a provider that answers no question for so long ends the study's run; run again, it goes on


class _Deployment(Wire):
    """`deployed.json`: written before a deployment is asked for, gone after it has been deleted."""

    name: str


@dataclass(frozen=True, slots=True)
class StudyHost:
    """Satisfies app.study_hosted.Host. `folder` holds what a killed study needs of it; `asks` is the untuned model's name there."""

    region: str
    model: str
    asks: str
    place: Azure | OpenAi
    folder: Path
    sampling: Sampling
    task: Task
    price: Price | None
    connect: Callable[[], Account]
    ledger: Ledger

    @contextmanager
    def open_trainer(self, root: Path) -> Iterator[Trainer]:
        with self.connect() as account:
            yield RemoteTrainer(root, account, self.task)

    @contextmanager
    def open_responder(self, run: Path | None, on_progress: Callable[[int], None]) -> Iterator[Responder]:
        name = self.asks if run is None else self.tuned_model(run)
        if not name:
            raise ProviderRefused(f"{self.region}: {run} has no tuned model.", hint="Run the study again.")
        try:
            if run is not None and isinstance(self.place, Azure):
                name = self._deployed(name, self.place)
            with self.connect() as account:
                yield RemoteResponder(
                    account, name, self.sampling, tuned=run is not None, on_progress=on_progress,
                    kept=KeptAnswers(self.folder / "answers.jsonl"), study=self.key(), patience_s=PATIENCE_S,
                )  # fmt: skip
        finally:
            self.release()

    def _deployed(self, model: str, place: Azure) -> str:
        """By a name that only this study's model has, so that asking for it again after a kill asks for the same."""
        name = f"study-{hashlib.sha256(f'{self.key()} {model}'.encode()).hexdigest()[:16]}"
        write_text(self._mark, _Deployment(name=name).model_dump_json())
        with Deployments(self.region, place) as deployments:
            deployments.deploy(name, model, place.deployment, place.capacity)
        return name

    def release(self) -> None:
        if not self._mark.is_file() or not isinstance(self.place, Azure):
            return
        left = _Deployment.model_validate_json(self._mark.read_text(encoding="utf-8"))
        with Deployments(self.region, self.place) as deployments:
            deployments.delete(left.name)
        self._mark.unlink()

    @property
    def _mark(self) -> Path:
        return self.folder / "deployed.json"

    def tuned_model(self, run: Path) -> str:
        found = read_remote(run / MODEL)
        return found.model if found else ""

    def prices(self, *, tuned: bool) -> Prices | None:
        price = self.price
        if price is None or price.input_million_tokens is None or price.output_million_tokens is None:
            return None
        return Prices(
            currency=price.currency, hosting_hour=price.hosting_hour, input_million_tokens=1e6 * price.request(1, 0, tuned=tuned),
            output_million_tokens=1e6 * price.request(0, 1, tuned=tuned),
        )  # fmt: skip

    def spending(self, run: Path | None) -> Spending:
        """As the region's ledger has it."""
        key, tuned = self.key(), read_remote(run / MODEL) if run else None
        answers = [e for e in self.ledger.entries() if e.kind == "answer" and e.study == key]
        training = self.ledger.job(tuned.job) if tuned else None
        return Spending(
            currency=self.price.currency if self.price else "USD", answers=len(answers), input_tokens=sum(e.input_tokens for e in answers),
            output_tokens=sum(e.output_tokens for e in answers), answers_money=_sum(answers),
            training_money=0.0 if tuned is None else training.money if training else None,
        )  # fmt: skip

    def key(self) -> str:
        """What this study's calls are told by in the ledger: not its path, which may change, nor its name, which others may have."""
        file = self.folder / "key"
        if not file.is_file():
            write_text(file, uuid4().hex)
        return file.read_text(encoding="utf-8")


def _sum(entries: list[Entry]) -> float | None:
    known = [e.money for e in entries if e.money is not None]
    return sum(known) if len(known) == len(entries) else None
