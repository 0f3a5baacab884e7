from hypothesis import given, settings

from feinschliff.core.chat import Rendered
from feinschliff.nn.tree import pack
from plain_model import families_of_examples

trained = [0.0, 0.0, 1.0, 1.0]


def test_shared_beginning_is_laid_out_once():
    packed = pack([Rendered([1, 2, 3, 4], trained), Rendered([1, 2, 3, 9], trained)], min_saving=1)
    assert packed.tokens_T.tolist() == [1, 2, 3]  # a last token is a target only, never an input
    assert packed.logical_tokens == 6


def test_each_example_keeps_its_target_at_the_branch_point():
    packed = pack([Rendered([1, 2, 3, 4], trained), Rendered([1, 2, 8, 9], trained)], min_saving=1)
    at_branch = [t for r, t in zip(packed.rows_R.tolist(), packed.targets_R.tolist(), strict=True) if r == 1]
    assert sorted(at_branch) == [3, 8]


def test_identical_examples_share_all_and_count_twice():
    packed = pack([Rendered([1, 2, 3, 4], trained)] * 2, min_saving=1000)
    assert packed.tokens_T.tolist() == [1, 2, 3]
    assert packed.targets_R.tolist() == [3, 4, 3, 4]


def test_example_that_is_the_beginning_of_another():
    packed = pack([Rendered([1, 2, 3], trained[:3]), Rendered([1, 2, 3, 4, 5], [0.0] * 4 + [1.0])], min_saving=1)
    assert packed.tokens_T.tolist() == [1, 2, 3, 4]


def test_small_saving_is_not_shared():
    examples = [Rendered([1, 2, 3, 4], trained), Rendered([1, 2, 3, 9], trained)]
    assert len(pack(examples, min_saving=64)) <= 6
    assert len(pack([examples[0], Rendered([1, 2, 7, 9], trained)], min_saving=64)) == 6
    assert len(pack([examples[0], Rendered([1, 2, 7, 9], trained)], share=False, min_saving=1)) == 6


def test_nothing_after_the_last_trained_token_is_computed():
    packed = pack([Rendered([1, 2, 3, 4, 5, 6], [0, 0, 1, 0, 0, 0])])
    assert packed.tokens_T.tolist() == [1, 2]


def test_example_without_trained_tokens_costs_nothing():
    packed = pack([Rendered([1, 2, 3], [0, 0, 0]), Rendered([1, 2, 3], [0, 0, 1])])
    assert packed.tokens_T.tolist() == [1, 2]
    assert packed.targets_R.tolist() == [3]


@settings(max_examples=50, deadline=None, derandomize=True)
@given(families_of_examples())
def test_every_trained_token_is_predicted_from_exactly_what_its_example_says_before(examples):
    packed = pack(examples, min_saving=1)
    mask = packed.dense_mask()
    wanted = [e.tokens[: t + 1] for e in examples for t, w in enumerate(e.weights) if w > 0 and t > 0]
    seen = []
    for row, target in zip(packed.rows_R.tolist(), packed.targets_R.tolist(), strict=True):
        path = packed.path(row)
        assert mask[row].nonzero()[:, 0].tolist() == path
        assert packed.positions_T[path].tolist() == list(range(len(path)))
        seen.append([*packed.tokens_T[path].tolist(), target])
    assert seen == wanted


@settings(max_examples=30, deadline=None, derandomize=True)
@given(families_of_examples())
def test_descendants_are_contiguous_and_nodes_tile_the_row(examples):
    packed = pack(examples, min_saving=1)
    ends = 0
    for node in packed.nodes:  # depth first
        assert node.start == ends
        assert node.start <= node.end <= node.subtree_end <= len(packed)
        ends = node.end
    assert ends == len(packed)
