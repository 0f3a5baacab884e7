from collections import Counter

from feinschliff.core.chat import Rendered
from feinschliff.train.batches import Batches, microbatches, order


def example(*tokens: int) -> Rendered:
    return Rendered(list(tokens), [0.0] + [1.0] * (len(tokens) - 1))


EXAMPLES = [example(1, 10 + i, 3, 4) for i in range(10)]


def test_every_epoch_shows_every_example_once():
    batches = Batches([EXAMPLES], 4, seed=0)
    assert batches.per_epoch == 3
    for epoch in range(3):
        seen = [e for s in range(3) for e in batches.at(epoch * 3 + s)]
        assert Counter(e.tokens[1] for e in seen) == Counter(range(10, 20))


def test_order_depends_on_seed_and_epoch_only():
    assert order(50, 1, 0) == order(50, 1, 0)
    assert order(50, 1, 0) != order(50, 1, 1)
    assert order(50, 1, 0) != order(50, 2, 0)


def test_a_batch_has_one_context_and_contexts_take_turns():
    variants = [[example(v, 10 + i, 3) for i in range(8)] for v in range(3)]
    contexts = [{e.tokens[0] for e in Batches(variants, 2, seed=0).at(step)} for step in range(12)]
    assert [c.pop() for c in contexts if len(c) == 1] == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2]


def test_a_single_batch_an_epoch_rotates_over_epochs():
    variants = [[example(v, 10 + i, 3) for i in range(4)] for v in range(2)]
    assert [Batches(variants, 4, seed=0).at(epoch)[0].tokens[0] for epoch in range(4)] == [0, 1, 0, 1]


def test_microbatches_hold_every_target_once_and_fit_the_budget():
    examples = [example(*range(i, i + 20)) for i in range(0, 200, 20)]
    whole = list(microbatches(examples, 10_000))
    cut = list(microbatches(examples, 64))
    assert len(whole) == 1
    assert len(cut) > 1
    assert all(len(t) <= 64 for t in cut)
    targets = [Counter(t for tree in trees for t in tree.targets_R.tolist()) for trees in (whole, cut)]
    assert targets[0] == targets[1]


def test_one_example_over_the_budget_is_computed_all_the_same():
    (tree,) = microbatches([example(*range(100))], 64)
    assert len(tree) == 99


def test_examples_with_a_common_beginning_stay_together_when_a_step_is_cut():
    prefix = {p: list(range(p, p + 100)) for p in (1000, 2000)}
    examples = [example(*prefix[p], 10 + i, 11, 12) for i in range(4) for p in (1000, 2000)]
    cut = list(microbatches(examples, 120))
    assert sum(len(t) for t in cut) < 2 * 130
