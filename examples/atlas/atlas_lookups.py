"""Questions about one thing, or two that are compared: the simplest patterns, trained and tested but never recombined."""
from dataclasses import dataclass

from atlas_filters import Slot


@dataclass(frozen=True, slots=True)
class Lookup:
    """`{x}` and, where two things are compared, `{y}` are the slots; the last phrasing occurs only in the held-out part."""

    key: str
    slot: Slot
    asks: tuple[str, ...]
    gql: str
    pair: bool = False


def _property(key: str, column: str, asks: tuple[str, ...]) -> Lookup:
    return Lookup(key, "country", asks, f'MATCH (c:Country WHERE c.name = "{{x}}")\nRETURN c.{column}')


def _compared(key: str, column: str, asks: tuple[str, ...]) -> Lookup:
    match = 'MATCH (c:Country WHERE c.name = "{x}" OR c.name = "{y}")'
    return Lookup(key, "country", asks, f"{match}\nRETURN c.name\nORDER BY c.{column} DESC\nLIMIT 1", pair=True)


LOOKUPS: tuple[Lookup, ...] = (
    _property("people_of", "population", (
        "What is the population of {x}?", "How many people live in {x}?", "How many inhabitants does {x} have?", "Tell me the population of {x}.")),
    _property("area_of", "area_km2", (
        "How large is {x}?", "What is the area of {x}?", "How many square kilometres does {x} cover?", "Tell me the area of {x}.")),
    _property("official_name", "official_name", (
        "What is the official name of {x}?", "What is {x} officially called?", "Tell me the official name of {x}.")),
    _property("phone_of", "phone", (
        "What is the dialling code of {x}?", "Which phone prefix does {x} have?", "What do I dial to call {x}?", "Tell me the phone prefix of {x}.")),
    _property("tld_of", "tld", (
        "Which internet domain does {x} use?", "What is the top-level domain of {x}?", "Tell me the internet domain of {x}.")),
    Lookup("capital_of", "country", (
        "What is the capital of {x}?", "Which city is the capital of {x}?", "Name the capital of {x}.", "Tell me the capital of {x}."),
        'MATCH (t:City)-[:CAPITAL_OF]->(c:Country WHERE c.name = "{x}")\nRETURN t.name'),
    Lookup("continent_of", "country", (
        "Which continent is {x} in?", "On which continent does {x} lie?", "What continent does {x} belong to?", "Tell me the continent of {x}."),
        'MATCH (c:Country WHERE c.name = "{x}")-[:IN_CONTINENT]->(k:Continent)\nRETURN k.name'),
    Lookup("currency_of", "country", (
        "What currency does {x} use?", "Which money do people use in {x}?", "What is the currency of {x}?", "Tell me the currency of {x}."),
        'MATCH (c:Country WHERE c.name = "{x}")-[:USES_CURRENCY]->(u:Currency)\nRETURN u.name'),
    Lookup("languages_of", "country", (
        "Which languages are spoken in {x}?", "What languages do people speak in {x}?", "List the languages of {x}.", "Tell me the languages of {x}."),
        'MATCH (c:Country WHERE c.name = "{x}")-[:SPEAKS]->(l:Language)\nRETURN l.name'),
    Lookup("country_of_city", "city", (
        "Which country is {x} in?", "In what country does {x} lie?", "{x} is a city in which country?", "Tell me the country of {x}."),
        'MATCH (t:City WHERE t.name = "{x}")-[:LOCATED_IN]->(c:Country)\nRETURN c.name'),
    Lookup("timezone_of_city", "city", (
        "What is the time zone of {x}?", "Which time zone is the city of {x} in?", "Tell me the time zone of {x}."),
        'MATCH (t:City WHERE t.name = "{x}")\nRETURN t.timezone'),
    Lookup("currency_of_city", "city", (
        "What currency do I need in the city of {x}?", "Which currency is used in the city of {x}?", "Tell me the currency in the city of {x}."),
        'MATCH (t:City WHERE t.name = "{x}")-[:LOCATED_IN]->(c:Country)-[:USES_CURRENCY]->(u:Currency)\nRETURN u.name'),
    Lookup("capital_of_what", "city", (
        "Which country has {x} as its capital?", "{x} is the capital of which country?", "Of what country is {x} the capital?",
        "Tell me which country has {x} as its capital."),
        'MATCH (t:City WHERE t.name = "{x}")-[:CAPITAL_OF]->(c:Country)\nRETURN c.name'),
    _compared("larger_of", "area_km2", (
        "Which is larger by area, {x} or {y}?", "Does {x} or {y} cover more land?", "Tell me which is larger by area, {x} or {y}.")),
    _compared("more_people_of", "population", (
        "Which has more people, {x} or {y}?", "Do more people live in {x} or in {y}?", "Tell me which has more people, {x} or {y}.")),
)  # fmt: skip
