"""Questions with their gold queries: patterns × phrasings × slot fillers, parted so that nothing leaks into the test."""
import itertools
import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from atlas_engine import Graph, has_clear_answer
from atlas_facts import Atlas
from atlas_filters import FILTER_BY_NAME, Filter, Slot
from atlas_lookups import LOOKUPS, Lookup
from atlas_operations import NOUNS, OPERATION_BY_NAME, Operation
from atlas_plan import Pattern, held_out_patterns, trained_patterns
from atlas_slots import NUMBERS, Fill, slot_fillers

TRAIN_PER_PATTERN = 13
PHRASINGS_PER_QUERY = 4  # at most, where a pattern has few different queries
N_ORDINARY, N_COMPOSITIONAL = 140, 60
NEAR_DUPLICATE = 0.9  # Jaccard similarity of word 3-shingles, as the study measures it
NEW_PHRASING = 0.3  # of the ordinary test questions, where the pattern allows
TRIES = 400  # slot fillings looked at per pattern


@dataclass(frozen=True, slots=True)
class Pair:
    question: str
    gql: str
    template: str
    part: str  # "train" | "ordinary" | "compositional"


@dataclass(frozen=True, slots=True)
class Query:
    """One gold query and what is needed to ask for it."""

    gql: str
    fills: tuple[Fill, ...]  # one for each filter, or for each slot of a lookup
    number: Fill | None = None


@dataclass(slots=True)
class Taken:
    """What there is already."""

    texts: set[str] = field(default_factory=set)
    trained_gql: set[str] = field(default_factory=set)
    trained: list[frozenset[str]] = field(default_factory=list)

    def allows(self, pair: Pair) -> bool:
        """No question twice; in the test neither a gold query of the training part nor nearly one of its questions."""
        if normalised(pair.question) in self.texts:
            return False
        return pair.part == "train" or (pair.gql not in self.trained_gql and self._is_far_from_training(pair.question))

    def _is_far_from_training(self, question: str) -> bool:
        mine = shingles(question)
        return all(len(mine & other) < NEAR_DUPLICATE * len(mine | other) for other in self.trained)

    def add(self, pair: Pair) -> None:
        self.texts.add(normalised(pair.question))
        if pair.part == "train":
            self.trained_gql.add(pair.gql)
            self.trained.append(shingles(pair.question))


def normalised(question: str) -> str:
    return " ".join(re.findall(r"\w+", question.casefold()))


def shingles(question: str) -> frozenset[str]:
    words = normalised(question).split()
    return frozenset(" ".join(words[i : i + 3]) for i in range(max(1, len(words) - 2)))


def write_gql(pattern: Pattern, fills: Sequence[Fill], number: Fill | None) -> str:
    """The gold query of a pattern with its slots filled."""
    operation = OPERATION_BY_NAME[pattern.subject, pattern.operation]
    filters = [FILTER_BY_NAME[pattern.subject, name] for name in pattern.filters]
    filled = list(zip(filters, fills, strict=True))
    variable, label = ("c", "Country") if pattern.subject == "country" else ("t", "City")
    conditions = " AND ".join(f.node.replace("{x}", x.value) for f, x in filled if f.node)
    node = f"({variable}:{label} WHERE {conditions})" if conditions else f"({variable}:{label})"
    first, *others = [f.path.replace("{x}", x.value) for f, x in filled if f.path] or [""]
    more = "".join(f", ({variable}){path}" for path in others)
    where = "".join(f"\nWHERE {f.where}" for f in filters if f.where)
    result = operation.result.replace("{n}", number.value if number else "")
    return f"MATCH {operation.before}{node}{first}{operation.after}{more}{where}\n{result}"


def ask(pattern: Pattern, query: Query, phrasing: str, rng: random.Random) -> str:
    """A question for the query, in one of the operation's phrasings and a random one of each filter's."""
    filters = [FILTER_BY_NAME[pattern.subject, name] for name in pattern.filters]
    said = [_said(rng.choice(f.modifiers), x) for f, x in zip(filters, query.fills, strict=True)]
    one, many = NOUNS[pattern.subject]
    return phrasing.format(
        one=" ".join([one, *(_singular(s) for s in said)]),
        many=" ".join([many, *said]),
        firsts=" ".join([many, *said[:-1]]),
        verb=_said(rng.choice(filters[-1].verbs), query.fills[-1]),
        n=query.number.text if query.number else "",
    )


def _said(words: str, fill: Fill) -> str:
    return words.replace("the {x}", "{x}").replace("{x}", fill.text) if fill.text.startswith("the ") else words.replace("{x}", fill.text)


def _singular(words: str) -> str:
    """Only the modifiers that hold a verb differ."""
    return words.replace("that share ", "that shares ").replace("that do not", "that does not")


def _queries(pattern: Pattern, fillers: Mapping[Slot, Sequence[Fill]], graph: Graph, rng: random.Random) -> Iterator[Query]:
    """Different gold queries of a pattern that have a clear answer, in random order."""
    operation = OPERATION_BY_NAME[pattern.subject, pattern.operation]
    filters = [FILTER_BY_NAME[pattern.subject, name] for name in pattern.filters]
    numbers: Sequence[Fill | None] = NUMBERS if "{n}" in operation.result else (None,)
    choices = [_fillers(f, fillers) for f in filters]
    seen: set[str] = set()
    for fills, number in _sample(choices, numbers, rng):
        gql = write_gql(pattern, fills, number)
        if gql not in seen and _is_clear(graph, gql, operation) and _every_filter_bites(pattern, fills, gql, graph):
            yield Query(gql, fills, number)
        seen.add(gql)


def _fillers(f: Filter, fillers: Mapping[Slot, Sequence[Fill]]) -> Sequence[Fill]:
    if f.key == "other_currency":  # "not the Euro" is a question, "not the Lek" hardly
        return [x for x in fillers["currency"] if x.value in {"Euro", "US Dollar", "CFA Franc BCEAO", "CFA Franc BEAC", "East Caribbean Dollar"}]
    if f.key == "people_over" and f.subject == "city":
        return [x for x in fillers["people"] if 200_000 < int(x.value) <= 20_000_000]
    return fillers[f.slot]


def _is_clear(graph: Graph, gql: str, operation: Operation) -> bool:
    return has_clear_answer(graph, gql, order=operation.order, smallest_set=operation.smallest_set)


def _every_filter_bites(pattern: Pattern, fills: Sequence[Fill], gql: str, graph: Graph) -> bool:
    """True if leaving out any of several filters would give another set, so that a query that forgets one is found out."""
    if len(pattern.filters) < 2:
        return True
    narrowed = graph.set_size(gql)
    for i in range(len(pattern.filters)):
        fewer = pattern._replace(filters=pattern.filters[:i] + pattern.filters[i + 1 :])
        if graph.set_size(write_gql(fewer, [*fills[:i], *fills[i + 1 :]], None)) == narrowed:
            return False
    return True


def _sample(choices: Sequence[Sequence[Fill]], numbers: Sequence[Fill | None], rng: random.Random) -> Iterator[tuple[tuple[Fill, ...], Fill | None]]:
    every = list(itertools.product(*choices)) if len(choices) < 2 else [tuple(rng.choice(c) for c in choices) for _ in range(TRIES)]
    rng.shuffle(every)
    for fills in every:
        for number in rng.sample(numbers, min(len(numbers), 4)):
            yield fills, number


def _lookup_queries(lookup: Lookup, fillers: Mapping[Slot, Sequence[Fill]], graph: Graph, rng: random.Random) -> Iterator[Query]:
    values = list(fillers[lookup.slot])
    rng.shuffle(values)
    for x, y in zip(values, [*values[1:], values[0]], strict=True):
        gql = lookup.gql.replace("{x}", x.value).replace("{y}", y.value)
        if has_clear_answer(graph, gql):
            yield Query(gql, (x, y) if lookup.pair else (x,))


def _ask_lookup(query: Query, phrasing: str) -> str:
    text = phrasing.format(x=query.fills[0].text, y=query.fills[-1].text)
    return text[0].upper() + text[1:]


@dataclass(slots=True)
class Generator:
    """Makes the pairs. The graph decides which queries are good, the seed which of them are taken."""

    atlas: Atlas
    graph: Graph
    seed: int = 0
    trained: Sequence[Pattern | Lookup] = (*trained_patterns(), *LOOKUPS)
    held_out: Sequence[Pattern] = tuple(held_out_patterns())
    taken: Taken = field(default_factory=Taken)

    def pairs(self) -> Iterator[Pair]:
        """Training pairs, pattern by pattern, then the test's. No gold query and no question occurs on both sides."""
        fillers = slot_fillers(self.atlas)
        waiting: list[tuple[str, list[Query], Pattern | Lookup]] = []
        for pattern in self.trained:
            rng = random.Random(f"{self.seed} {_name(pattern)}")
            if isinstance(pattern, Lookup):
                found = list(itertools.islice(_lookup_queries(pattern, fillers, self.graph, rng), TRAIN_PER_PATTERN + 4))
            else:
                found = list(itertools.islice(_queries(pattern, fillers, self.graph, rng), TRAIN_PER_PATTERN + 4))
            n_test = 4 if len(found) > 8 else 2 if len(found) > 4 else 1
            waiting.append((_name(pattern), found[:n_test], pattern))
            yield from self._training(pattern, found[n_test:], rng)
        yield from self._ordinary(waiting)
        yield from self._compositional(fillers)

    def _training(self, pattern: Pattern | Lookup, queries: Sequence[Query], rng: random.Random) -> Iterator[Pair]:
        phrasings = _asks(pattern)[:-1]
        n = 0
        for repeat in range(PHRASINGS_PER_QUERY):
            for position, query in enumerate(queries):
                phrasing = phrasings[(position + repeat) % len(phrasings)]
                pair = self._pair(pattern, query, phrasing, "train", rng)
                if pair and n < TRAIN_PER_PATTERN:
                    n += 1
                    yield pair

    def _ordinary(self, waiting: Sequence[tuple[str, list[Query], Pattern | Lookup]]) -> Iterator[Pair]:
        """Takes one query of each pattern after the other, until there are enough."""
        rng = random.Random(f"{self.seed} ordinary")
        n = 0
        for turn in range(4):
            for _, queries, pattern in waiting:
                if turn >= len(queries) or n == N_ORDINARY:
                    continue
                *known, new = _asks(pattern)
                for _attempt in range(4):
                    phrasing = new if rng.random() < NEW_PHRASING else rng.choice(known)
                    if pair := self._pair(pattern, queries[turn], phrasing, "ordinary", rng):
                        n += 1
                        yield pair
                        break

    def _compositional(self, fillers: Mapping[Slot, Sequence[Fill]]) -> Iterator[Pair]:
        """Known phrasings only: what is new is the combination."""
        patterns = self.held_out[::-1]  # the hardest kind first
        total = 0
        for place, pattern in enumerate(patterns):
            wanted = total + math.ceil((N_COMPOSITIONAL - total) / (len(patterns) - place))  # what one lacks, the next ones make up
            rng = random.Random(f"{self.seed} {pattern.name}")
            for query in _queries(pattern, fillers, self.graph, rng):
                if pair := self._pair(pattern, query, rng.choice(_asks(pattern)[:-1]), "compositional", rng):
                    total += 1
                    yield pair
                if total == wanted:
                    break

    def _pair(self, pattern: Pattern | Lookup, query: Query, phrasing: str, part: str, rng: random.Random) -> Pair | None:
        """None where it would repeat or leak."""
        if isinstance(pattern, Lookup):
            question = _ask_lookup(query, phrasing)
        else:
            question = ask(pattern, query, phrasing, rng)
        pair = Pair(question, query.gql, _name(pattern), part)
        if not self.taken.allows(pair):
            return None
        self.taken.add(pair)
        return pair


def _asks(pattern: Pattern | Lookup) -> tuple[str, ...]:
    return pattern.asks if isinstance(pattern, Lookup) else OPERATION_BY_NAME[pattern.subject, pattern.operation].asks


def _name(pattern: Pattern | Lookup) -> str:
    return f"lookup|{pattern.key}" if isinstance(pattern, Lookup) else pattern.name
