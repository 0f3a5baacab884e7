"""Settings → a service with its tables, blobs and background work. As `compose`, it knows every implementation."""
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from feinschliff.app.background import Background
from feinschliff.app.deployments import remove_overdue
from feinschliff.app.file_check import check_next
from feinschliff.app.integrations import Forwarding
from feinschliff.app.janitor import expire, tidy
from feinschliff.app.service import Service
from feinschliff.app.training import Training
from feinschliff.app.usage import write_counts
from feinschliff.catalog.market import load_market
from feinschliff.core.ports import NoTraces
from feinschliff.core.settings import Settings
from feinschliff.providers.embedders import Embedders
from feinschliff.providers.live import LiveModels
from feinschliff.providers.live_engines import engine_program
from feinschliff.providers.offered import Offered
from feinschliff.providers.traces import make_traces
from feinschliff.providers.trackers.opening import Trackers
from feinschliff.providers.training_runs import TrainingRuns
from feinschliff.store.blobs import Blobs
from feinschliff.store.database import Database
from feinschliff.store.migrate import migrate


@contextmanager
def open_service(settings: Settings, *, traced: bool = False) -> Iterator[Service]:
    """The service without its background work: what commands such as `keys create` need. Tables are brought up to date.

    `traced`: where the environment asks for it. Raises MissingExtra.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    database = Database(settings.url, settings.limits.database_wait_s)
    try:
        migrate(database, settings.data_dir)
        market = load_market(settings.config, settings.catalogue)
        offered = Offered(settings.models, market.models)
        blobs, logs = Blobs(settings.data_dir / "blobs", settings.limits.spare_bytes), settings.data_dir / "logs"
        traces = make_traces() if traced else NoTraces()
        live = LiveModels(logs, program=engine_program(settings))
        yield Service(settings, database, blobs, offered, live, Embedders(logs), market, traces)
    finally:
        database.close()


@contextmanager
def working(service: Service) -> Iterator[None]:
    """The background work, for as long as a server runs."""
    tidy(service)
    training = Training(service, TrainingRuns(service.runs))
    forwarding = Forwarding(service, Trackers(service.settings.data_dir))
    background = Background(
        service,
        {
            "file check": partial(check_next, service),
            "janitor": partial(expire, service),
            "deployments": partial(remove_overdue, service),
            "jobs": training.step,
            "integrations": forwarding.step,
            "usage": partial(write_counts, service),
        },
    )
    background.start()
    try:
        yield
    finally:
        background.stop()
        training.stop()
        forwarding.stop()
        write_counts(service)
        service.traces.close()
