"""What is known of a value: Python's own numbers, texts and containers, or UNKNOWN.

A dict is kept as key -> (value, line), so that each argument is known with the line on which it is
written. Lists and tuples hold their values as they are.
"""

import ast
import operator


class _Unknown:
    def __repr__(self) -> str:
        return "unknown"


#: Stands for whatever the text does not prove; a part of a container may be UNKNOWN alone.
UNKNOWN = _Unknown()
#: Casts that people write around constants, as in `int(8.0)` and `float("1e-4")`.
CASTS = {"int": int, "float": float, "str": str, "bool": bool}
OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
#: A whole number that takes more bits than this is no training argument: it could fill the memory.
MAX_BITS = 4096
MAX_TEXT = 10_000


def parts_of(value) -> list:
    """The values inside a dict, list or tuple; nothing for any other value."""
    if isinstance(value, dict):
        return [part for part, _ in value.values()]
    if isinstance(value, (list, tuple)):
        return [*value]
    return []


def is_immutable(value) -> bool:
    """Can nobody change it in place? What is unknown stays so, whatever is done to it."""
    return not isinstance(value, (dict, list)) and has_immutable_parts(value)


def has_immutable_parts(value) -> bool:
    """Would a shallow copy of the value share nothing that can be changed in place?"""
    return all(map(is_immutable, parts_of(value)))


def without_lines(value):
    """The value as Python has it, without lines; UNKNOWN where any part of it is not known."""
    parts = [without_lines(part) for part in parts_of(value)]
    if any(part is UNKNOWN for part in parts):
        return UNKNOWN
    if isinstance(value, dict):
        return dict(zip(value, parts))
    if isinstance(value, (list, tuple)):
        return type(value)(parts)
    return value


def part_at(value, key):
    """`value[key]`, UNKNOWN where there is no such part."""
    try:
        if isinstance(value, dict):
            return value[key][0]
        if isinstance(value, (list, tuple)):
            return value[key]
    except (LookupError, TypeError):
        pass  # the key is unknown itself, or Python would stumble over it too
    return UNKNOWN


def arithmetic(op: ast.operator, left, right):
    """`left op right` for numbers, and + for texts; UNKNOWN where it would fail or grow large."""
    if isinstance(left, str) and isinstance(right, str):
        if type(op) is ast.Add and len(left) + len(right) < MAX_TEXT:
            return left + right
        return UNKNOWN
    if not (_is_number(left) and _is_number(right)) or type(op) not in OPERATORS:
        return UNKNOWN
    if isinstance(left, int) and isinstance(right, int) and _bits(op, left, right) > MAX_BITS:
        return UNKNOWN
    # A division by zero, or a float's power beyond its range: the script would fail there itself.
    try:
        value = OPERATORS[type(op)](left, right)
    except ArithmeticError:
        return UNKNOWN
    # A root of a negative number is complex, which no training argument is.
    return value if _is_number(value) else UNKNOWN


def _is_number(value) -> bool:
    return isinstance(value, (int, float))


def _bits(op: ast.operator, left: int, right: int) -> int:
    """An upper bound of the bits of `left op right`, found before Python computes for hours."""
    if type(op) is ast.Pow:
        return left.bit_length() * abs(right)
    return left.bit_length() + right.bit_length()


def cast(kind: str, value):
    """int("8"), float("1e-4"), str(3), bool(0): as Python does it."""
    if kind not in CASTS or not isinstance(value, (int, float, str)):
        return UNKNOWN
    try:
        return CASTS[kind](value)
    except (ValueError, OverflowError):
        return UNKNOWN
