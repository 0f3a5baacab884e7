"""The atlas schema and how to ask it, as short Markdown documents: what a retriever can put into a prompt."""
from atlas_facts import NODES, RELATIONSHIPS, Atlas

PROPERTIES = {
    "name": "name, as written in questions",
    "official_name": "official name",
    "population": "inhabitants, people",
    "area_km2": "area, land, size in square kilometres",
    "iso2": "two-letter code",
    "iso3": "three-letter code",
    "phone": "dialling code, phone prefix",
    "tld": "internet domain, top-level domain",
    "timezone": "time zone",
    "code": "ISO code",
    "id": "geonames id",
}
RELATIONSHIP_TEXTS = {
    "IN_CONTINENT": ("Which continent a country lies in.",
        'MATCH (c:Country)-[:IN_CONTINENT]->(k:Continent WHERE k.name = "Oceania")\nRETURN COUNT(c)'),
    "LOCATED_IN": ("Which country a city or town lies in.",
        'MATCH (t:City)-[:LOCATED_IN]->(c:Country WHERE c.name = "Chad")\nRETURN t.name'),
    "CAPITAL_OF": ("Which city is the capital of a country.",
        'MATCH (t:City)-[:CAPITAL_OF]->(c:Country WHERE c.name = "Chad")\nRETURN t.name'),
    "BORDERS": ("Which countries border each other: neighbours, next to, a shared land border. Has no direction.",
        'MATCH (c:Country)-[:BORDERS]-(n:Country WHERE n.name = "Chad")\nRETURN c.name'),
    "USES_CURRENCY": ("Which currency, money a country uses and people pay with.",
        'MATCH (c:Country)-[:USES_CURRENCY]->(u:Currency WHERE u.name = "Rand")\nRETURN c.name'),
    "SPEAKS": ("Which languages are spoken in a country.",
        'MATCH (c:Country)-[:SPEAKS]->(l:Language WHERE l.name = "Tamil")\nRETURN c.name'),
}  # fmt: skip
CONVENTIONS = """# Conventions

- Variables: c country, t city (town), k continent, u currency, l language, n neighbour.
- Put conditions inside the node pattern: `(c:Country WHERE c.population > 5000000)`.
- Write numbers in full: 5 million is 5000000. Text goes in double quotes.
- MATCH is the first line, RETURN starts a new line, ORDER BY and LIMIT each start a new line.
"""
HOW_TO = {
    "counting": ("How to count and add up", "How many, number of, total, altogether, on average.",
        'MATCH (c:Country)-[:SPEAKS]->(l:Language WHERE l.name = "Tamil")\nRETURN COUNT(c)',
        "Total: `RETURN SUM(c.population)`. Average: `RETURN AVG(c.area_km2)`."),
    "ranking": ("How to rank and sort", "Largest, most populous, the top three, from A to Z: sort, then keep as many as asked.",
        'MATCH (c:Country)-[:BORDERS]-(n:Country WHERE n.name = "Chad")\nRETURN c.name\nORDER BY c.population DESC\nLIMIT 3',
        "Smallest, fewest: `ASC`. All of them in order: leave out LIMIT."),
    "two_filters": ("How to combine conditions", "Two relationships of one thing: a comma, then the variable again.",
        'MATCH (c:Country)-[:IN_CONTINENT]->(k:Continent WHERE k.name = "Asia"), (c)-[:SPEAKS]->(l:Language WHERE l.name = "Tamil")\nRETURN c.name',
        "A property and a relationship: `MATCH (t:City WHERE t.population > 1000000)-[:LOCATED_IN]->(c:Country WHERE c.name = \"Chad\")`."),
    "following": ("How to follow to something else", "Capitals, currencies, languages, cities of a set of countries: put it in front; DISTINCT for currencies and languages.",
        'MATCH (u:Currency)<-[:USES_CURRENCY]-(c:Country)-[:BORDERS]-(n:Country WHERE n.name = "Chad")\nRETURN DISTINCT u.name',
        "Capitals: `MATCH (t:City)-[:CAPITAL_OF]->(c:Country)-…`."),
    "negation": ("How to say not", "Not, other than, without.",
        'MATCH (c:Country)-[:IN_CONTINENT]->(k:Continent WHERE k.name = "Asia")\nWHERE NOT EXISTS { MATCH (c)-[:BORDERS]-(n:Country) }\nRETURN c.name',
        "Another value: `(u:Currency WHERE u.name <> \"Rand\")`."),
    "comparing": ("How to compare two things", "Which is larger, which has more people, this or that.",
        'MATCH (c:Country WHERE c.name = "Chad" OR c.name = "Mali")\nRETURN c.name\nORDER BY c.area_km2 DESC\nLIMIT 1', ""),
}  # fmt: skip


def schema_documents(atlas: Atlas) -> dict[str, str]:
    """File name → Markdown: one for each label and relationship, the conventions, and worked patterns."""
    examples = _example_values(atlas)
    documents = {f"node_{label.lower()}.md": _node(label, examples) for label in NODES}
    documents |= {f"relationship_{name.lower()}.md": _relationship(name) for name in RELATIONSHIPS}
    documents["conventions.md"] = CONVENTIONS
    for key, (title, when, gql, note) in HOW_TO.items():
        documents[f"how_to_{key}.md"] = f"# {title}\n\n{when}\n\n```gql\n{gql}\n```\n" + (f"\n{note}\n" if note else "")
    return documents


def _example_values(atlas: Atlas) -> dict[str, str]:
    country = next(c for c in atlas.countries if c.iso2 == "TD")
    city = next(c for c in atlas.cities if c.country == "TD" and c.is_capital)
    return {
        "Country.name": f'"{country.name}"', "Country.official_name": f'"{country.official_name}"',
        "Country.population": str(country.population), "Country.area_km2": str(country.area_km2),
        "Country.phone": f'"{country.phone}"', "Country.tld": f'"{country.tld}"', "Country.iso2": '"TD"', "Country.iso3": '"TCD"',
        "City.name": f'"{city.name}"', "City.population": str(city.population), "City.timezone": f'"{city.timezone}"',
        "Continent.name": '"Africa"', "Currency.name": '"Rand"', "Language.name": '"Tamil"',
    }  # fmt: skip


def _node(label: str, examples: dict[str, str]) -> str:
    lines = [f"# {label}", "", f"Node label `{label}`. Properties:"]
    for column in NODES[label]:
        example = examples.get(f"{label}.{column}")
        lines.append(f"- `{column}`: {PROPERTIES[column]}" + (f", for example {example}" if example else ""))
    lines += ["", "Relationships:"]
    for name, (start, end) in RELATIONSHIPS.items():
        if label in (start, end):
            lines.append(f"- `{_arrow(name)}`")
    return "\n".join(lines) + "\n"


def _relationship(name: str) -> str:
    text, gql = RELATIONSHIP_TEXTS[name]
    return f"# {name}\n\n{text} `{_arrow(name)}`\n\n```gql\n{gql}\n```\n"


def _arrow(name: str) -> str:
    start, end = RELATIONSHIPS[name]
    return f"(:{start})-[:{name}]-{'' if name == 'BORDERS' else '>'}(:{end})"
