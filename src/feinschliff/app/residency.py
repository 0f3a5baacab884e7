"""Data that must stay somewhere: what files are marked with, and what is made of them inherits.

A file's mark is a list of regions, or of Azure's locations; it may go to any one of them. A job has the marks of its files and, where it
starts from a tuned model, of all that the model was trained on: weights can give back what they have learnt.
"""
from collections.abc import Collection, Mapping, Sequence

from feinschliff.app.service import Service
from feinschliff.catalog.offers import check_residency
from feinschliff.catalog.query import places, plain
from feinschliff.catalog.regions import Azure, Region
from feinschliff.core.finetune import NewJob
from feinschliff.core.service import ProjectId
from feinschliff.core.service_errors import RequestError
from feinschliff.store import jobs
from feinschliff.store.database import Session
from feinschliff.store.tables import FileRow

MOST_PLACES = 32  # of one mark


def check_mark(service: Service, stays_in: Collection[str]) -> None:
    """Raises RequestError for a place that nobody knows: a misspelt one would keep the data from everywhere."""
    market = service.market
    locations = [r.location for r in market.regions.regions.values() if isinstance(r, Azure)]
    known = {plain(name): name for name in (*places(market.models).values(), *locations, *market.regions.regions)}
    unknown = [name for name in stays_in if plain(name) not in known]
    if unknown or len(stays_in) > MOST_PLACES:
        why = f"{unknown[0]!r} is no region" if unknown else f"more than {MOST_PLACES} regions are named"
        raise RequestError(f"stays_in: {why}.", param="stays_in", hint=f"Regions: {', '.join(market.regions.regions)}; or a location of Azure's.")


def marks_of(db: Session, project: ProjectId, new: NewJob, files: Sequence[FileRow]) -> dict[str, list[str]]:
    """The job's: file → where what is in it may be."""
    parent = jobs.find_model(db, project, new.model)
    made_by = None if parent is None else jobs.job_of(db, parent.job_id)
    inherited = made_by.stays_in or {} if made_by is not None else {}
    return inherited | {file.id: list(file.stays_in) for file in files if file.stays_in}


def check_marks(marks: Mapping[str, Collection[str]], name: str, region: Region) -> None:
    """Raises NotOffered where what is in one of the files may not go to the region called `name`, with those where it may."""
    for file, stays_in in marks.items():
        check_residency(stays_in, name, region, what=f"What is in the file {file}")
