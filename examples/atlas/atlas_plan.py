"""Which components are put together: in training (and the ordinary test), and only in the compositional test.

A pattern is (subject, filters, operation), written "country|continent+language|count". Every filter and every operation of
the held-out patterns occurs in training, but not together. Three kinds of held-out pattern:

    operation   one filter and an operation that never met
    filters     two filters that never met, under an operation that both have met
    both        a pair of filters known from training under an operation that this pair never met
"""
from typing import Literal, NamedTuple

from atlas_filters import Subject

Kind = Literal["operation", "filters", "both"]


class Pattern(NamedTuple):
    subject: Subject
    filters: tuple[str, ...]
    operation: str

    @property
    def name(self) -> str:
        return f"{self.subject}|{'+'.join(self.filters)}|{self.operation}"


TRAINED_COUNTRY = {
    "list": "borders currency language people_over area_under continent+language continent+people_over continent+no_borders"
    " continent+other_currency language+area_over",
    "count": "continent currency language people_under area_over continent+currency continent+people_under"
    " continent+no_borders language+people_over",
    "most_people": "continent language borders continent+language",
    "fewest_people": "continent currency borders",
    "largest": "continent currency borders",
    "smallest": "continent language currency",
    "top_people": "continent language",
    "top_area": "continent currency",
    "total_people": "continent currency borders",
    "average_people": "continent language",
    "average_area": "continent borders",
    "by_name": "currency language",
    "by_people": "continent borders",
    "populations": "currency borders",
    "capitals": "continent borders currency",
    "currencies": "continent borders language",
    "languages": "continent borders",
    "largest_city": "continent borders language",
}
TRAINED_CITY = {
    "list": "timezone country+people_over language+people_over",
    "count": "country continent timezone country+people_over",
    "most_people": "country continent timezone",
    "fewest_people": "country language",
    "top_people": "country continent",
    "total_people": "country language",
    "average_people": "country timezone",
    "by_people": "country+people_over",
    "populations": "country+people_over timezone",
    "countries": "people_over",
}

HELD_OUT: dict[Kind, dict[Subject, dict[str, str]]] = {
    "operation": {
        "country": {
            "most_people": "currency", "fewest_people": "language", "largest": "language", "smallest": "borders",
            "top_people": "currency", "top_area": "language", "total_people": "language", "average_people": "borders",
            "average_area": "currency", "by_name": "borders", "by_people": "currency", "populations": "language",
            "capitals": "language", "languages": "currency", "largest_city": "currency",
        },
        "city": {
            "most_people": "language", "fewest_people": "timezone", "top_people": "language", "total_people": "timezone",
            "average_people": "language", "count": "language",
        },
    },
    "filters": {
        "country": {"list": "borders+people_over currency+area_under borders+language", "count": "continent+area_over currency+people_under"},
        "city": {},
    },
    "both": {
        "country": {
            "largest": "continent+language", "total_people": "continent+language", "capitals": "continent+language",
            "most_people": "continent+currency", "by_name": "continent+no_borders",
        },
        "city": {"count": "language+people_over", "total_people": "country+people_over"},
    },
}  # fmt: skip


def _patterns(subject: Subject, table: dict[str, str]) -> list[Pattern]:
    return [Pattern(subject, tuple(names.split("+")), op) for op, all_names in table.items() for names in all_names.split()]


def trained_patterns() -> list[Pattern]:
    return _patterns("country", TRAINED_COUNTRY) + _patterns("city", TRAINED_CITY)


def held_out_patterns() -> dict[Pattern, Kind]:
    """Pattern → how it is new."""
    return {p: kind for kind, subjects in HELD_OUT.items() for s, table in subjects.items() for p in _patterns(s, table)}
