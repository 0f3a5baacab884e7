"""What questions can be about: the fillers of the slots, as people write them and as the graph holds them."""
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from atlas_facts import Atlas
from atlas_filters import Slot

WITH_ARTICLE = frozenset({
    "Netherlands", "Philippines", "United States", "United Kingdom", "United Arab Emirates", "Bahamas", "Gambia", "Maldives",
    "Dominican Republic", "Central African Republic", "Democratic Republic of the Congo", "Republic of the Congo", "Solomon Islands",
    "Comoros", "Ivory Coast",
})  # fmt: skip
KNOWN_COUNTRY = 300_000  # inhabitants: nobody asks a program for the neighbours of Pitcairn
KNOWN_CITY = 500_000


@dataclass(frozen=True, slots=True)
class Fill:
    text: str  # in the question
    value: str  # in the query


def _same(names: Sequence[str]) -> list[Fill]:
    return [Fill(name, name) for name in names]


def _millions(*counts: int) -> list[Fill]:
    return [Fill(f"{n} million", str(n * 1_000_000)) for n in counts]


def _with_commas(*numbers: int) -> list[Fill]:
    return [Fill(f"{n:,}", str(n)) for n in numbers]


PEOPLE = [
    *_with_commas(50_000, 100_000, 250_000, 300_000, 400_000, 500_000, 600_000, 750_000, 800_000),
    *_millions(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 25, 30, 40, 50, 60, 70, 80, 100, 150, 200),
]  # fmt: skip
AREAS = [
    *_with_commas(500, 1_000, 2_000, 5_000, 10_000, 20_000, 30_000, 50_000, 80_000, 100_000, 150_000, 200_000, 300_000, 400_000, 500_000),
    *_millions(1, 2, 3, 5, 8),
]  # fmt: skip
WORDS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBERS = [
    *(Fill(word, str(n)) for n, word in enumerate(WORDS, start=2)),
    *(Fill(str(n), str(n)) for n in (3, 4, 5, 6, 7, 8, 10, 12, 15, 20)),
]


def slot_fillers(atlas: Atlas) -> Mapping[Slot, Sequence[Fill]]:
    """Slot → fillers, in a fixed order. Names that mean two things in the graph are left out."""
    known = [c for c in atlas.countries if c.population >= KNOWN_COUNTRY]
    countries = {c.name for c in atlas.countries}
    city_names = Counter(c.name for c in atlas.cities)
    cities = [c for c in atlas.cities if (c.population >= KNOWN_CITY or c.is_capital) and city_names[c.name] == 1]
    languages = Counter(atlas.languages[code] for c in known for code in c.languages)
    return {
        "continent": _same([name for code, name in atlas.continents.items() if code != "AN"]),
        "country": [Fill(f"the {c.name}" if c.name in WITH_ARTICLE else c.name, c.name) for c in known],
        "currency": _same(sorted({atlas.currencies[c.currency] for c in known if c.currency})),
        "language": _same(sorted(languages)),
        "city": _same([c.name for c in cities if c.name not in countries and _is_latin(c.name)]),
        "timezone": _same(sorted({c.timezone for c in atlas.cities if c.population >= KNOWN_CITY})),
        "people": PEOPLE,
        "area": AREAS,
        "none": [Fill("", "")],
    }


def _is_latin(name: str) -> bool:
    return all(ord(letter) < 0x180 for letter in name)
