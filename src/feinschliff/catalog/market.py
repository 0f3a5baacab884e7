"""What there is, where, for how much, and who may spend what: the lists as one, with the user's own files on top."""
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from feinschliff.catalog.fit import Hardware, Work, fit
from feinschliff.catalog.models import Catalog, CatalogModel, load_catalog, read_own
from feinschliff.catalog.offers import offered
from feinschliff.catalog.prices import Prices, load_prices
from feinschliff.catalog.projects import Projects, load_projects
from feinschliff.catalog.query import Wanted, matching, places, plain, tunable
from feinschliff.catalog.regions import Regions, load_regions
from feinschliff.core.jobs import Lora

FILES = ("models", "regions", "prices", "projects")  # .toml in the settings folder


@dataclass(frozen=True, slots=True)
class Market:
    models: Catalog
    regions: Regions
    prices: Prices
    projects: Projects

    def listed(self, wanted: Wanted, today: date, here: Hardware | None = None) -> tuple[CatalogModel, ...]:
        """The models wanted, in the catalogue's order; with `here`, only those that LoRA can tune there with examples of
        1,024 tokens. A region is one of those configured, or a provider's. Raises RegionNotConfigured for what is neither.
        """
        configured = self.regions.regions.get(wanted.region) if wanted.region else None
        if wanted.region and configured is None and plain(wanted.region) not in places(self.models):
            self.regions.find(wanted.region, self.models)
        found = matching(self.models, wanted if configured is None else wanted.anywhere, today)
        if configured is not None:
            found = tuple(m for m in found if offered(m, configured))
        return found if here is None else tuple(m for m in found if _fits(m, here))


def load_market(folder: Path | None = None, catalogue: Path | None = None) -> Market:
    """The built-in lists, with those of `folder` on top where they are, and `catalogue`, a further list of models.

    Raises BadStudy where one is malformed.
    """
    models, regions, prices, projects = (None if folder is None else _there(folder / f"{name}.toml") for name in FILES)
    known = load_catalog(models)
    return Market(known if catalogue is None else known.with_own(read_own(catalogue)), load_regions(regions), load_prices(prices), load_projects(projects))


def _there(file: Path) -> Path | None:
    return file if file.is_file() else None


def _fits(model: CatalogModel, here: Hardware) -> bool:
    return tunable(model) and bool(model.sources) and fit(model, Lora(), "auto", Work(), here).verdict in ("fits", "fits_recomputed")
