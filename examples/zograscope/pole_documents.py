"""The POLE schema as Markdown documents, one per class: what a retriever can put into a prompt."""
import json
from dataclasses import dataclass

from pole_graph import Graph, Table

# What the published schema does not say and the questions need. Keys are relationship types.
MEANING = {
    "KNOWS": "two people who know each other",
    "KNOWS_SN": "friends, or people who know each other from a social network",
    "KNOWS_LW": "people who live together, share a home",
    "KNOWS_PHONE": "people who know each other's phone number",
    "FAMILY_REL": "relatives, members of one family",
    "CURRENT_ADDRESS": "where a person lives: the residence, the address",
    "HAS_PHONE": "whose phone it is",
    "HAS_EMAIL": "whose e-mail address it is",
    "CALLER": "the phone that made the call",
    "CALLED": "the phone that received the call",
    "PARTY_TO": "a person who is involved in a crime",
    "INVOLVED_IN": "a vehicle that is involved in a crime",
    "INVESTIGATED_BY": "the officer who investigates a crime",
    "OCCURRED_AT": "the location where a crime happened",
    "LOCATION_IN_AREA": "the area a location lies in",
    "HAS_POSTCODE": "the post code of a location",
    "POSTCODE_IN_AREA": "the area a post code belongs to",
}

CONVENTIONS = """# Conventions of queries over the POLE graph

- Name nodes x0, x1, x2, …; x0 is what is asked for.
- Put conditions inside the node pattern: `(x0:Person WHERE x0.surname = "Fox")`.
- Relationships are written without direction: `-[:KNOWS]-`.
- All values are text in double quotes, numbers as well: `x0.year = "2005"`.
- Dates are written day/month/year: `"16/08/2017"`. Times are written `"09:27"`.

## Asking for things
`MATCH (x0:Vehicle WHERE x0.make = "Nissan")-[:INVOLVED_IN]-(x1:Crime WHERE x1.date = "11/08/2017")
RETURN x0`

## Asking for a property
`MATCH (x0:Person)-[:HAS_PHONE]-(x1:Phone WHERE x1.phoneNo = "3-(070)893-3322")
RETURN x0.nhs_no`

## Counting
Count different things with DISTINCT:
`MATCH (x0:Crime)-[:PARTY_TO]-(x1:Person WHERE x1.surname = "Green")
RETURN COUNT(DISTINCT x0)`

## Newest and oldest, longest and shortest
Sort and keep one: `DESC` for newest, latest, longest; `ASC` for oldest, earliest, shortest:
`MATCH (x0:Crime)-[:PARTY_TO]-(x1:Person)-[:KNOWS]-(x2:Person WHERE x2.nhs_no = "329-25-8167")
RETURN x0
ORDER BY x0.date DESC
LIMIT 1`

## Two conditions on one thing
Repeat MATCH with the same variable:
`MATCH (x0:Email)-[:HAS_EMAIL]-(x2:Person)-[:KNOWS_SN]-(x3:Person WHERE x3.surname = "Fox")
MATCH (x0:Email)-[:HAS_EMAIL]-(x1:Person WHERE x1.surname = "Green")
RETURN x0`
"""


@dataclass(frozen=True, slots=True)
class Descriptions:
    """The published texts for classes and properties."""

    classes: dict[str, str]
    properties: dict[str, str]


def _descriptions(published: str) -> Descriptions:
    schema = json.loads(published)
    return Descriptions(
        {name: entry["description"] for name, entry in schema["classes"].items()},
        {name: entry["description"] for name, entry in schema["properties"].items()},
    )


def schema_documents(graph: Graph, published: str) -> dict[str, str]:
    """File name → Markdown. `published` is the text of the published schema (JSON)."""
    texts = _descriptions(published)
    documents = {f"{t.name}.md": _class_document(t, graph, texts) for t in graph.nodes}
    documents["conventions.md"] = CONVENTIONS
    return documents


def _class_document(table: Table, graph: Graph, texts: Descriptions) -> str:
    lines = [f"# {table.name}", "", f"{texts.classes.get(table.name, table.name)}. Node label `{table.name}`.", ""]
    lines.append("## Properties")
    for position, column in enumerate(table.columns):
        if column in texts.properties:  # the published schema leaves out what the questions never ask for
            example = next((row[position] for row in table.rows if row[position]), "")
            lines.append(f'- `{column}`: {texts.properties[column]}, for example "{example}"')
    lines += ["", "## Relationships"]
    for kind in graph.relationships:
        if kind.ends and table.name in kind.ends:
            other = kind.ends[1] if kind.ends[0] == table.name else kind.ends[0]
            lines.append(f"- `({table.name})-[:{kind.name}]-({other})`: {MEANING[kind.name]}")
    return "\n".join(lines) + "\n"
