"""What the service's use cases work with."""
import secrets
import string
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from threading import Condition

from feinschliff.app.usage import Counts
from feinschliff.catalog.market import Market, load_market
from feinschliff.core.ports import NoTraces, Traces
from feinschliff.core.settings import Settings
from feinschliff.providers.embedders import Embedders
from feinschliff.providers.live import LiveModels
from feinschliff.providers.offered import Offered
from feinschliff.store.blobs import Blobs
from feinschliff.store.database import Database

ALPHABET = string.ascii_letters + string.digits
ID_LENGTH = 24  # characters of 62: nobody guesses one


def now() -> int:
    """Unix seconds."""
    return int(time.time())


def new_id(prefix: str) -> str:
    return prefix + "".join(secrets.choice(ALPHABET) for _ in range(ID_LENGTH))


class Bell:
    """Tells threads that wait that there may be work. A ring between two waits is not lost."""

    def __init__(self) -> None:
        self._condition = Condition()
        self._rings = 0

    def ring(self) -> None:
        with self._condition:
            self._rings += 1
            self._condition.notify_all()

    def wait(self, heard: int, timeout_s: float) -> int:
        """Until it has rung more than `heard` times, or so long; how often it has rung by then."""
        with self._condition:
            self._condition.wait_for(lambda: self._rings > heard, timeout_s)
            return self._rings


@dataclass(frozen=True, slots=True)
class Service:
    """The collaborators of every use case. `work` rings when something waits to be done in the background."""

    settings: Settings
    database: Database
    blobs: Blobs
    offered: Offered
    live: LiveModels
    embedders: Embedders
    market: Market = field(default_factory=load_market)
    traces: Traces = field(default_factory=NoTraces)
    counts: Counts = field(default_factory=Counts)
    clock: Callable[[], int] = now
    work: Bell = field(default_factory=Bell)

    @property
    def runs(self) -> Path:
        """Where training runs have their folders."""
        return self.settings.data_dir / "runs"


def today(service: Service) -> date:
    """By UTC, as every date of the catalogue."""
    return datetime.fromtimestamp(service.clock(), UTC).date()
