"""What is done with a set of countries or cities: listed, counted, ranked, added up, or followed to something else."""
from dataclasses import dataclass

from atlas_filters import Subject


@dataclass(frozen=True, slots=True)
class Operation:
    """`asks` are phrasings; the last one occurs only in the held-out part.

    `{many}` and `{one}` are the noun with all its modifiers; `{firsts}` leaves out the last filter, which `{verb}` then says.
    `{n}` is the number of rows asked for.
    """

    subject: Subject
    key: str
    asks: tuple[str, ...]
    result: str  # GQL from RETURN on
    before: str = ""  # pattern in front of the subject's node
    after: str = ""  # pattern behind it; only together with filters that have no path
    order: str = ""  # what it is sorted by; rows with equal values would make the answer ambiguous
    smallest_set: int = 1  # an average of one thing is no question


def _ranked(subject: Subject, key: str, by: str, asks: tuple[str, ...]) -> Operation:
    """The first by a property; `by` is "c.population DESC"."""
    name = by[0]
    return Operation(subject, key, asks, f"RETURN {name}.name\nORDER BY {by}\nLIMIT 1", order=by, smallest_set=2)


def _top(subject: Subject, key: str, by: str, asks: tuple[str, ...]) -> Operation:
    return Operation(subject, key, asks, f"RETURN {by[0]}.name\nORDER BY {by}\nLIMIT {{n}}", order=by, smallest_set=4)


LIST = (
    "Which {firsts} {verb}?", "What are the {many}?", "Name all {many}.", "Give me the {many}.", "List the {many}",
    "Show me every {one}.",
)  # fmt: skip
COUNT = (
    "How many {firsts} {verb}?", "Count the {many}.", "How many {many} are there?", "What is the number of {many}?",
    "Tell me how many {many} there are.",
)  # fmt: skip
MOST_PEOPLE = (
    "Which {one} has the most people?", "What is the most populous {one}?", "Of all {many}, which has the largest population?",
    "Tell me the most populous {one}.",
)  # fmt: skip
FEWEST_PEOPLE = (
    "Which {one} has the fewest people?", "What is the least populous {one}?", "Of all {many}, which has the smallest population?",
    "Tell me the least populous {one}.",
)  # fmt: skip
TOP_PEOPLE = (
    "What are the {n} most populous {many}?", "List the {n} most populous {many}.", "Which {n} {many} have the most people?",
    "Show me the {n} most populous {many}.",
)  # fmt: skip
TOTAL_PEOPLE = (
    "What is the total population of the {many}?", "How many people live in the {many} altogether?",
    "Add up the population of all {many}.", "Tell me the total population of the {many}.",
)  # fmt: skip
AVERAGE_PEOPLE = (
    "What is the average population of the {many}?", "How many people do the {many} have on average?",
    "Tell me the average population of the {many}.",
)  # fmt: skip
BY_NAME = (
    "List the {many} in alphabetical order.", "Which {firsts} {verb}? Sort them by name.", "Name the {many} from A to Z.",
    "Show me the {many} in alphabetical order.",
)  # fmt: skip
BY_PEOPLE = (
    "List the {many} from most to least populous.", "Rank the {many} by population.", "Which {firsts} {verb}? Largest population first.",
    "Show me the {many} from most to least populous.",
)  # fmt: skip
POPULATIONS = (
    "What are the populations of the {many}?", "List the {many} with their populations.", "How many people live in each of the {many}?",
    "Show me the {many} with their populations.",
)  # fmt: skip

OPERATIONS: tuple[Operation, ...] = (
    Operation("country", "list", LIST, "RETURN c.name"),
    Operation("country", "count", COUNT, "RETURN COUNT(c)"),
    _ranked("country", "most_people", "c.population DESC", MOST_PEOPLE),
    _ranked("country", "fewest_people", "c.population ASC", FEWEST_PEOPLE),
    _ranked("country", "largest", "c.area_km2 DESC", (
        "Which {one} has the biggest area?", "What is the largest {one} by area?", "Of all {many}, which covers the most land?",
        "Tell me the largest {one} by area.")),
    _ranked("country", "smallest", "c.area_km2 ASC", (
        "Which {one} has the smallest area?", "What is the smallest {one} by area?", "Of all {many}, which covers the least land?",
        "Tell me the smallest {one} by area.")),
    _top("country", "top_people", "c.population DESC", TOP_PEOPLE),
    _top("country", "top_area", "c.area_km2 DESC", (
        "What are the {n} largest {many} by area?", "List the {n} largest {many} by area.", "Which {n} {many} cover the most land?",
        "Show me the {n} largest {many} by area.")),
    Operation("country", "total_people", TOTAL_PEOPLE, "RETURN SUM(c.population)", smallest_set=2),
    Operation("country", "average_people", AVERAGE_PEOPLE, "RETURN AVG(c.population)", smallest_set=2),
    Operation("country", "average_area", (
        "What is the average area of the {many}?", "How large are the {many} on average?", "Tell me the average area of the {many}."),
        "RETURN AVG(c.area_km2)", smallest_set=2),
    Operation("country", "by_name", BY_NAME, "RETURN c.name\nORDER BY c.name", order="c.name ASC", smallest_set=2),
    Operation("country", "by_people", BY_PEOPLE, "RETURN c.name\nORDER BY c.population DESC", order="c.population DESC", smallest_set=2),
    Operation("country", "populations", POPULATIONS, "RETURN c.name, c.population"),
    Operation("country", "capitals", (
        "What are the capitals of the {many}?", "List the capitals of all {many}.", "Name the capital of every {one}.",
        "Show me the capitals of the {many}."), "RETURN t.name", before="(t:City)-[:CAPITAL_OF]->"),
    Operation("country", "currencies", (
        "Which currencies are used in the {many}?", "List the currencies of the {many}.", "What do people pay with in the {many}?",
        "Show me the currencies of the {many}."), "RETURN DISTINCT u.name", before="(u:Currency)<-[:USES_CURRENCY]-"),
    Operation("country", "languages", (
        "Which languages are spoken in the {many}?", "List the languages of the {many}.", "What do people speak in the {many}?",
        "Show me the languages of the {many}."), "RETURN DISTINCT l.name", before="(l:Language)<-[:SPEAKS]-"),
    Operation("country", "largest_city", (
        "What is the largest city in the {many}?", "Which city is the biggest in the {many}?",
        "Of all cities in the {many}, which has the most people?", "Tell me the largest city in the {many}."),
        "RETURN t.name\nORDER BY t.population DESC\nLIMIT 1", before="(t:City)-[:LOCATED_IN]->", order="t.population DESC", smallest_set=2),
    Operation("city", "list", LIST, "RETURN t.name"),
    Operation("city", "count", COUNT, "RETURN COUNT(t)"),
    _ranked("city", "most_people", "t.population DESC", MOST_PEOPLE),
    _ranked("city", "fewest_people", "t.population ASC", FEWEST_PEOPLE),
    _top("city", "top_people", "t.population DESC", TOP_PEOPLE),
    Operation("city", "total_people", TOTAL_PEOPLE, "RETURN SUM(t.population)", smallest_set=2),
    Operation("city", "average_people", AVERAGE_PEOPLE, "RETURN AVG(t.population)", smallest_set=2),
    Operation("city", "by_people", BY_PEOPLE, "RETURN t.name\nORDER BY t.population DESC", order="t.population DESC", smallest_set=2),
    Operation("city", "populations", POPULATIONS, "RETURN t.name, t.population"),
    Operation("city", "countries", (
        "Which countries have {many}?", "In which countries are there {many}?", "List the countries that have {many}.",
        "Show me the countries that have {many}."), "RETURN DISTINCT c.name", after="-[:LOCATED_IN]->(c:Country)"),
)  # fmt: skip

OPERATION_BY_NAME = {(o.subject, o.key): o for o in OPERATIONS}
NOUNS: dict[Subject, tuple[str, str]] = {"country": ("country", "countries"), "city": ("city", "cities")}
