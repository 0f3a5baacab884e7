"""Settings → objects. The only module that knows every implementation."""
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from feinschliff.app.study_run import Backends
from feinschliff.catalog.market import Market, load_market
from feinschliff.catalog.models import Catalog, CatalogModel
from feinschliff.catalog.regions import Azure, OpenAi
from feinschliff.core.engine import Sampling
from feinschliff.core.ports import Embedder, Responder
from feinschliff.core.study import Study
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
    """This machine, for one study whose folder is `out`."""
    base = model_folder(study.model.base, note)

    @contextmanager
    def open_responder(tuned: Path | None, on_progress: Callable[[int], None]) -> Iterator[Responder]:
        adapter = tuned if tuned is not None and (tuned / "adapter_config.json").is_file() else None
        whole = base if tuned is None or adapter is not None else tuned
        sampling = Sampling(
            max_tokens=study.model.max_output_tokens, temperature=study.model.temperature, seed=study.model.seed
        )
        with Program(whole, out / "logs" / "answering.log") as program:
            yield LocalResponder(program, sampling, study.model.batch_size, adapter, on_progress)

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
    )


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
