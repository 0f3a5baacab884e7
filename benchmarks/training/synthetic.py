"""Two made data sets whose shape is exact: S, where all examples share one long prompt, and D, where none shares anything.

Texts are drawn by seed, so every machine writes the same bytes.
"""
import random
from collections.abc import Iterator

Turn = tuple[str, str]  # role, content

# With SmolLM2's template around it, about 390 tokens that every example of S begins with.
SCHEMA_PROMPT = """You write Cypher for the property graph of a shipping company. Reply with a single query and nothing else.

Nodes
Port(code: string, name: string, country: string, depth_m: float, berths: int)
Ship(imo: int, name: string, flag: string, built: int, teu: int)
Crew(id: int, name: string, rank: string, joined: date)
Voyage(id: int, departed: datetime, arrived: datetime, fuel_t: float)
Container(number: string, kind: string, weight_kg: int, sealed: boolean)
Client(id: int, name: string, city: string, rating: float)

Edges
(Voyage)-[:BY]->(Ship)
(Voyage)-[:FROM]->(Port)
(Voyage)-[:TO]->(Port)
(Crew)-[:SERVES_ON {since: date, watch: string}]->(Ship)
(Container)-[:CARRIED_ON {slot: string, position: int}]->(Voyage)
(Client)-[:BOOKED {price: float, booked: date}]->(Container)
(Ship)-[:MOORED_AT {berth: int, until: datetime}]->(Port)

Conventions
- No label, property or edge but those above.
- Text is compared as it is, in single quotes; dates are ISO texts.
- Return single properties under short names, never a whole node.
- The most, the least, the first: sort and limit.
- Where a path may meet a node twice, count it once."""

_PORTS = ["Aarhus", "Bergen", "Cadiz", "Dakar", "Esbjerg", "Fremantle", "Gdansk", "Halifax", "Izmir", "Jeddah", "Kobe", "Livorno", "Malaga", "Naples", "Odense", "Piraeus"]
_SHIPS = ["Amber Star", "Boreal Wind", "Cape Linden", "Dover Light", "Eastern Crane", "Fair Heather", "Grey Heron", "Hansa Pearl", "Ivory Coast"]
_RANKS = ["master", "first mate", "bosun", "engineer", "cook", "deckhand"]
_KINDS = ["reefer", "tank", "open top", "dry", "flat rack"]


def shared_prompt(n: int, seed: int = 0) -> Iterator[list[Turn]]:
    """S: the schema prompt, a question of about 21 tokens, an answer of about 55."""
    rng = random.Random(seed)
    for _ in range(n):
        question, answer = _question(rng)
        yield [("system", SCHEMA_PROMPT), ("user", question), ("assistant", answer)]


def _question(rng: random.Random) -> Turn:
    port, other, ship = *rng.sample(_PORTS, 2), rng.choice(_SHIPS)
    rank, kind, year, n = rng.choice(_RANKS), rng.choice(_KINDS), rng.randint(1988, 2025), rng.randint(2, 20)
    return rng.choice([
        (f"Which {n} ships built after {year} have burnt the most fuel on voyages to {other}?",
         f"MATCH (s:Ship)<-[:BY]-(v:Voyage)-[:TO]->(:Port {{name: '{other}'}}) WHERE s.built > {year} "
         f"RETURN s.name AS ship ORDER BY sum(v.fuel_t) DESC LIMIT {n}"),
        (f"How many {kind} containers has the {ship} carried since the start of {year}?",
         f"MATCH (c:Container {{kind: '{kind}'}})-->(v:Voyage)-[:BY]->(:Ship {{name: '{ship}'}}) "
         f"WHERE v.departed >= '{year}' RETURN count(DISTINCT c) AS n"),
        (f"Name every {rank} who served on the {ship} while it was moored at {port}, please.",
         f"MATCH (p:Crew {{rank: '{rank}'}})-->(s:Ship {{name: '{ship}'}})-->(:Port {{name: '{port}'}}) RETURN DISTINCT p.name"),
        (f"What did clients from {port} pay on average for {kind} containers booked before {year}?",
         f"MATCH (:Client {{city: '{port}'}})-[b:BOOKED]->(:Container {{kind: '{kind}'}}) WHERE b.booked < '{year}' RETURN avg(b.price)"),
        (f"Give the {n} heaviest sealed containers on voyages that left {port} for {other}.",
         f"MATCH (c:Container {{sealed: true}})-->(v:Voyage)-[:FROM]->(:Port {{name: '{port}'}}) "
         f"RETURN c.number ORDER BY c.weight_kg DESC LIMIT {n}"),
    ])  # fmt: skip


_WHO = ["The gardener", "A retired pilot", "Two of the students", "My grandmother", "The night nurse", "Their landlord", "An old friend of ours", "The clerk"]
_DID = ["counted", "borrowed", "sketched", "forgot", "polished", "sorted", "hid", "photographed", "weighed"]
_WHAT = ["the copper kettles", "a box of letters", "the garden chairs", "seven blue bottles", "the spare keys", "a map of the coast", "the winter coats"]
_WHEN = ["before the train left", "on the last day of spring", "when the lamps went out", "while it was raining", "in spite of the noise", "after lunch", "without a word"]
_TOKENS_PER_SENTENCE = 13.4


def separate(n: int, seed: int = 1, shortest: int = 53, longest: int = 592) -> Iterator[list[Turn]]:
    """D: `shortest` to `longest` tokens, evenly spread, about half of them answer; no two begin alike."""
    rng = random.Random(seed)
    for _ in range(n):
        total = rng.uniform(shortest, longest)
        yield sized(rng, total, rng.uniform(0.45, 0.65))


def sized(rng: random.Random, tokens: float, answered: float) -> list[Turn]:
    """A chat of about `tokens` tokens, the part `answered` of them in the answer."""
    body = max(12.0, tokens - 34)
    first = f"{rng.randrange(10**6):06d}"[::-1]  # differs at once, so that no prefix is worth sharing
    return [
        ("system", f"{first} is the number of this story."),
        ("user", f"Go on: {_story(rng, body * (1 - answered))}"),
        ("assistant", _story(rng, body * answered)),
    ]


def _story(rng: random.Random, tokens: float) -> str:
    n = max(1, round(tokens / _TOKENS_PER_SENTENCE))
    return " ".join(f"{rng.choice(_WHO)} {rng.choice(_DID)} {rng.choice(_WHAT)} {rng.choice(_WHEN)}." for _ in range(n))
