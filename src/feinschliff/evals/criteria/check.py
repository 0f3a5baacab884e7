"""Whether a grader can do its work at all, said when it is made and not with every item."""
import ast
from typing import assert_never

from feinschliff.core.criteria import (
    Criterion,
    LabelModel,
    Multi,
    PythonCode,
    ScoreModel,
    StringCheck,
    TextSimilarity,
)
from feinschliff.core.errors import BadData
from feinschliff.evals.criteria import formula
from feinschliff.evals.criteria.failed import NotGraded
from feinschliff.evals.criteria.templates import bad_names


def check(criterion: Criterion) -> None:
    """Raises BadData with the grader's name and what to change."""
    match criterion:
        case StringCheck():
            _check_names(criterion.name, criterion.input, criterion.reference)
        case TextSimilarity():
            _check_names(criterion.name, criterion.input, criterion.reference)
            if criterion.evaluation_metric == "meteor":
                raise BadData(
                    f"The grader {criterion.name!r} measures METEOR, which needs WordNet; this service has no copy of it.",
                    hint="Use rouge_l, gleu, bleu or cosine.",
                )
        case PythonCode():
            _check_source(criterion)
        case ScoreModel():
            _check_names(criterion.name, *(say.content.text for say in criterion.input))
            if criterion.bounds[0] >= criterion.bounds[1]:
                raise BadData(f"The grader {criterion.name!r} has an empty range {list(criterion.bounds)}.", hint="Write [lowest, highest].")
        case LabelModel():
            _check_names(criterion.name, *(say.content.text for say in criterion.input))
            if unknown := sorted({*criterion.passing_labels} - {*criterion.labels}):
                raise BadData(f"The grader {criterion.name!r} passes {unknown}, which are no labels of it.", hint="Add them to labels.")
        case Multi():
            _check_multi(criterion)
        case _:
            assert_never(criterion)


def _check_multi(criterion: Multi) -> None:
    if not criterion.by_name:
        raise BadData(f"The grader {criterion.name!r} has no graders.")
    for grader in criterion.by_name.values():
        check(grader)
    try:
        formula.checked(criterion.calculate_output, frozenset(criterion.by_name))
    except NotGraded as error:
        raise BadData(f"The grader {criterion.name!r}: {error.message}", hint=error.hint) from None


def _check_names(name: str, *templates: str) -> None:
    for template in templates:
        if bad := bad_names(template):
            raise BadData(
                f"The grader {name!r} names {bad[0]!r}, which stands for nothing.", hint="Names begin with item. or sample., as {{ item.answer }}."
            )


def _check_source(criterion: PythonCode) -> None:
    try:
        tree = ast.parse(criterion.source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise BadData(f"The source of the grader {criterion.name!r} is no Python: {error}.") from None
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    names |= {target.id for node in tree.body if isinstance(node, ast.Assign) for target in node.targets if isinstance(target, ast.Name)}
    if "grade" not in names:
        raise BadData(f"The source of the grader {criterion.name!r} defines no `grade`.", hint="def grade(sample, item) -> float: …")
