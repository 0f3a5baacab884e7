"""Arithmetic over the scores of several graders: `0.7 * accuracy + 0.3 * min(style, tone)`. Parsed, never evaluated as Python."""
import ast
import math
import operator
from collections.abc import Callable, Mapping

from feinschliff.evals.criteria.failed import NotGraded

BINARY: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv, ast.Pow: math.pow,
}  # fmt: skip
UNARY: Mapping[type[ast.unaryop], Callable[[float], float]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
OF_ONE: Mapping[str, Callable[[float], float]] = {
    "abs": abs, "floor": math.floor, "ceil": math.ceil, "exp": math.exp, "sqrt": math.sqrt, "log": math.log
}  # fmt: skip
OF_MANY: Mapping[str, Callable[..., float]] = {"min": min, "max": max}
DEEPEST = 50


def checked(formula: str, names: frozenset[str]) -> None:
    """Raises NotGraded where the formula cannot be read, or names what is no grader."""
    _value(_parsed(formula), dict.fromkeys(names, None), 0)


def calculated(formula: str, scores: Mapping[str, float]) -> float:
    """Raises NotGraded where it cannot be read, divides by zero, or leaves the finite numbers."""
    try:
        value = _value(_parsed(formula), scores, 0)
    except (ArithmeticError, ValueError) as error:
        raise NotGraded("other_error", f"{formula!r} has no value for {dict(scores)}: {error}.") from None
    if value is None or not math.isfinite(value):
        raise NotGraded("other_error", f"{formula!r} has no finite value for {dict(scores)}.")
    return float(value)


def _parsed(formula: str) -> ast.expr:
    try:
        return ast.parse(formula.strip().replace("^", "**"), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise NotGraded("formula_parse_error", f"{formula!r} is no formula.", hint="Write arithmetic over the names of graders.") from None


def _value(node: ast.expr, scores: Mapping[str, float | None], depth: int) -> float | None:
    """None while a score is not known yet: then only the form is looked at."""
    if depth > DEEPEST:
        raise NotGraded("formula_parse_error", "The formula is nested too deeply.")
    match node:
        case ast.Constant(value=bool()):
            raise _not_here(node)
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Name(id=name) if name in scores:
            return scores[name]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in BINARY:
            return _applied(BINARY[type(op)], _value(left, scores, depth + 1), _value(right, scores, depth + 1))
        case ast.UnaryOp(op=sign, operand=operand) if type(sign) in UNARY:
            return _applied(UNARY[type(sign)], _value(operand, scores, depth + 1))
        case ast.Call(func=ast.Name(id=name), args=[one], keywords=[]) if name in OF_ONE:
            return _applied(OF_ONE[name], _value(one, scores, depth + 1))
        case ast.Call(func=ast.Name(id=name), args=[_, _, *_] as several, keywords=[]) if name in OF_MANY:
            return _applied(OF_MANY[name], *(_value(one, scores, depth + 1) for one in several))
        case _:
            raise _not_here(node)


def _applied(function: Callable[..., float], *values: float | None) -> float | None:
    known = [value for value in values if value is not None]
    return function(*known) if len(known) == len(values) else None


def _not_here(node: ast.expr) -> NotGraded:
    hint = f"Allowed are names of graders, numbers, + - * / ^, brackets, {', '.join([*OF_ONE, *OF_MANY])}."
    return NotGraded("formula_parse_error", f"{ast.unparse(node)!r} is not allowed in a formula.", hint=hint)
