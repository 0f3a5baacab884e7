"""What narrows a set of countries or cities: in words, and as a piece of a GQL pattern.

A filter is one component of a question; the other is the operation (atlas_operations.py). `{x}` is the slot, in words and in GQL.
"""
from dataclasses import dataclass
from typing import Literal

Subject = Literal["country", "city"]
Slot = Literal["continent", "country", "currency", "language", "city", "timezone", "people", "area", "none"]


@dataclass(frozen=True, slots=True)
class Filter:
    """`modifiers` follow a noun ("countries bordering Chad"), `verbs` follow "which countries" ("border Chad").

    Exactly one of the three pieces of GQL is set; `c` is the country and `t` the city (town) that is asked about.
    """

    subject: Subject
    key: str
    slot: Slot
    modifiers: tuple[str, ...]
    verbs: tuple[str, ...]
    node: str = ""  # a condition inside the node pattern
    path: str = ""  # goes on behind the node pattern
    where: str = ""  # a condition on the whole pattern


NO_BORDERS = "NOT EXISTS { MATCH (c)-[:BORDERS]-(n:Country) }"

FILTERS: tuple[Filter, ...] = (
    Filter("country", "continent", "continent",
        ("in {x}", "located in {x}", "on the continent of {x}"),
        ("are in {x}", "belong to {x}", "lie in {x}"),
        path='-[:IN_CONTINENT]->(k:Continent WHERE k.name = "{x}")'),
    Filter("country", "borders", "country",
        ("bordering {x}", "next to {x}", "that share a border with {x}"),
        ("border {x}", "share a border with {x}", "are neighbours of {x}"),
        path='-[:BORDERS]-(n:Country WHERE n.name = "{x}")'),
    Filter("country", "currency", "currency",
        ("using the {x}", "where the {x} is used", "with the {x} as currency"),
        ("use the {x}", "pay with the {x}", "have the {x} as their currency"),
        path='-[:USES_CURRENCY]->(u:Currency WHERE u.name = "{x}")'),
    Filter("country", "other_currency", "currency",
        ("not using the {x}", "that do not pay with the {x}"),
        ("do not use the {x}", "don't pay with the {x}", "have a currency other than the {x}"),
        path='-[:USES_CURRENCY]->(u:Currency WHERE u.name <> "{x}")'),
    Filter("country", "language", "language",
        ("where {x} is spoken", "where people speak {x}", "with {x} as a language"),
        ("speak {x}", "have {x} as a language"),
        path='-[:SPEAKS]->(l:Language WHERE l.name = "{x}")'),
    Filter("country", "people_over", "people",
        ("with more than {x} people", "with over {x} inhabitants", "with a population above {x}"),
        ("have more than {x} people", "have over {x} inhabitants", "have a population above {x}"),
        node="c.population > {x}"),
    Filter("country", "people_under", "people",
        ("with fewer than {x} people", "with under {x} inhabitants", "with a population below {x}"),
        ("have fewer than {x} people", "have under {x} inhabitants", "have a population below {x}"),
        node="c.population < {x}"),
    Filter("country", "area_over", "area",
        ("larger than {x} square kilometres", "with an area above {x} km2"),
        ("are larger than {x} square kilometres", "cover more than {x} km2"),
        node="c.area_km2 > {x}"),
    Filter("country", "area_under", "area",
        ("smaller than {x} square kilometres", "with an area below {x} km2"),
        ("are smaller than {x} square kilometres", "cover less than {x} km2"),
        node="c.area_km2 < {x}"),
    Filter("country", "no_borders", "none",
        ("without any land border", "without neighbours"),
        ("have no land border", "have no neighbours", "border no other country"),
        where=NO_BORDERS),
    Filter("city", "country", "country",
        ("in {x}", "located in {x}"),
        ("are in {x}", "lie in {x}"),
        path='-[:LOCATED_IN]->(c:Country WHERE c.name = "{x}")'),
    Filter("city", "continent", "continent",
        ("in {x}", "on the continent of {x}"),
        ("are in {x}", "lie in {x}"),
        path='-[:LOCATED_IN]->(c:Country)-[:IN_CONTINENT]->(k:Continent WHERE k.name = "{x}")'),
    Filter("city", "language", "language",
        ("in countries where {x} is spoken", "in countries that speak {x}"),
        ("are in countries where {x} is spoken", "lie in countries that speak {x}"),
        path='-[:LOCATED_IN]->(c:Country)-[:SPEAKS]->(l:Language WHERE l.name = "{x}")'),
    Filter("city", "timezone", "timezone",
        ("in the {x} time zone", "in time zone {x}"),
        ("are in the {x} time zone", "use the time zone {x}"),
        node='t.timezone = "{x}"'),
    Filter("city", "people_over", "people",
        ("with more than {x} people", "with over {x} inhabitants", "with a population above {x}"),
        ("have more than {x} people", "have over {x} inhabitants"),
        node="t.population > {x}"),
)  # fmt: skip

FILTER_BY_NAME = {(f.subject, f.key): f for f in FILTERS}
