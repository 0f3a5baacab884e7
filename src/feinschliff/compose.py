"""Settings → objects. The only module that knows every implementation."""
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from feinschliff.app.remote_admission import (
    admit,
    answering_there,
    hosted_name,
    model_there,
    remote_place,
)
from feinschliff.app.study_folder import Layout
from feinschliff.app.study_hosted import Host
from feinschliff.app.study_run import Backends
from feinschliff.app.study_training import hosted_spec
from feinschliff.catalog.market import Market, load_market
from feinschliff.catalog.models import Catalog, CatalogModel
from feinschliff.catalog.offers import check_residency
from feinschliff.catalog.regions import Azure, OpenAi
from feinschliff.catalog.workload import FileSizes, at_least
from feinschliff.core.engine import Sampling
from feinschliff.core.finetune import TuningHyperparameters
from feinschliff.core.ports import Embedder, Responder
from feinschliff.core.study import Study
from feinschliff.data.__main__ import check_file
from feinschliff.evals.compare import is_tuned
from feinschliff.providers import weights
from feinschliff.providers.engine import LocalEmbedder, LocalResponder, Program
from feinschliff.providers.remote.connect import connect
from feinschliff.providers.remote.ledger import Ledger
from feinschliff.providers.trainer import LocalTrainer

if TYPE_CHECKING:
    from feinschliff.providers.remote.account import Account

REPORTED = ("feinschliff", "torch", "transformers", "tokenizers", "numpy", "scipy", "ladybug", "gqlppy")


def settings_folder() -> Path:
    """The user's own files: `$FEINSCHLIFF_CONFIG`, else `$XDG_CONFIG_HOME/feinschliff` or `~/.config/feinschliff`. It need not exist."""
    if own := os.environ.get("FEINSCHLIFF_CONFIG"):
        return Path(own)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "feinschliff"


def own_market() -> Market:
    """The catalogue, regions and prices, with the user's own files on top. Raises BadStudy where one is malformed."""
    return load_market(settings_folder())


def state_folder() -> Path:
    """What commands remember of remote calls: `$FEINSCHLIFF_STATE`, else `$XDG_STATE_HOME/feinschliff` or `~/.local/state/feinschliff`."""
    if own := os.environ.get("FEINSCHLIFF_STATE"):
        return Path(own)
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "feinschliff"


def remote_ledger(region: str) -> Ledger:
    """What has been spent in a remote region."""
    return Ledger(state_folder() / "remote" / f"{region}.jsonl")


def remote_account(region: str, place: Azure | OpenAi, model: CatalogModel | None = None) -> "Account":
    """The calls of a remote region, at the prices of `model`. Raises MissingExtra, RegionNotConfigured without its credential."""
    client = connect(region, place)
    from feinschliff.providers.remote.account import (
        Account,  # needs the client's package, which not everybody has
    )

    price = None if model is None else own_market().prices.of(model)
    return Account(region, client, remote_ledger(region), azure=isinstance(place, Azure), price=price)


def own_catalog() -> Catalog:
    """The built-in models, with the user's models.toml on top where there is one. Raises BadStudy where that is malformed."""
    return own_market().models


def model_folder(name: str, note: Callable[[str], None] = lambda text: None) -> Path:
    """The folder with the weights of a catalogue id, or the folder of that name. Raises ModelUnavailable."""
    return weights.model_folder(name, own_catalog(), note)


def study_backends(study: Study, out: Path, note: Callable[[str], None]) -> Backends:
    """This machine, and the hosts that the study asks, for one study whose folder is `out`."""
    base = model_folder(study.model.base, note)

    @contextmanager
    def open_responder(tuned: Path | None, on_progress: Callable[[int], None]) -> Iterator[Responder]:
        adapter = tuned if tuned is not None and (tuned / "adapter_config.json").is_file() else None
        whole = base if tuned is None or adapter is not None else tuned
        with Program(whole, out / "logs" / "answering.log") as program:
            yield LocalResponder(program, _sampling(study), study.model.batch_size, adapter, on_progress)

    @contextmanager
    def open_embedder() -> Iterator[Embedder]:
        embedding = study.retrieval.embedding if study.retrieval else "all-minilm-l6-v2"
        with Program(model_folder(embedding, note), out / "logs" / "embedding.log", embedding=True) as program:
            yield LocalEmbedder(program)

    return Backends(
        base_model=base,
        base_sha256=weights.weights_sha256(base),
        open_responder=open_responder,
        open_embedder=open_embedder,
        trainer=LocalTrainer,
        device=device(),
        versions={name: found for name in REPORTED if (found := _version(name))},
        hosts=study_hosts(study, out),
    )


def study_hosts(study: Study, out: Path) -> dict[str, Host]:
    """The hosted models that arms ask. All that can be refused is refused here, before anything is asked or paid.

    Raises RegionNotConfigured, NotOffered (a model or settings that the region does not tune, data that may not go there), MissingExtra.
    """
    asked = dict.fromkeys(name for arm in study.arms if (name := study.host_of(arm)))
    market = own_market() if asked else None
    return {} if market is None else {name: _study_host(study, name, market, out) for name in asked}


def _study_host(study: Study, name: str, market: Market, out: Path) -> Host:
    from feinschliff.providers.remote.deploying import Deployments
    from feinschliff.providers.remote.study_host import StudyHost
    from feinschliff.providers.remote.trainer import Task, check_spec

    hosted, today = study.hosted[name], datetime.now(UTC).date()
    region, place = remote_place(market.regions, hosted.region, market)
    check_residency(study.data.stays_in, region, place)
    tuned = any(is_tuned(arm) and study.host_of(arm) == name for arm in study.arms)
    model = model_there(market, hosted.model, region, today) if tuned else answering_there(market, hosted.model, place)
    ledger = remote_ledger(region)

    def admitted(rows: Path, wanted: TuningHyperparameters) -> int:
        found = check_file(rows, None, None)
        sizes = FileSizes(n_examples=found.n_examples, characters=found.n_characters, longest=found.longest_characters)
        return admit(market, region, model, at_least(sizes), wanted, ledger.spent(), study.data.stays_in, today).tokens

    with remote_account(region, place, model):
        pass  # its credential is there
    if tuned:
        check_spec(hosted_spec(study, name), region)
    if tuned and isinstance(place, Azure):
        with Deployments(region, place):
            pass  # and what deploying needs
    return StudyHost(
        region=region, model=hosted_name(model), asks=hosted.deployment or hosted_name(model), place=place, folder=Layout(out).hosted / name,
        sampling=_sampling(study), price=market.prices.of(model), connect=lambda: remote_account(region, place, model), ledger=ledger,
        task=Task(
            model=hosted_name(model), training=place.training if isinstance(place, Azure) else None, concurrency=place.concurrency, admit=admitted,
        ),
    )  # fmt: skip


def _sampling(study: Study) -> Sampling:
    return Sampling(max_tokens=study.model.max_output_tokens, temperature=study.model.temperature, seed=study.model.seed)


def device() -> str:
    """This machine in words, for reports: processor and usable cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()  # macOS lacks it
    return f"{_processor()}, {cores} cores, {platform.system()} {platform.machine()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown processor")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
