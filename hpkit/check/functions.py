"""The file's own functions: what their parameters get, and what they return."""

import ast
from collections.abc import Callable

from hpkit.check.names import Names
from hpkit.check.values import UNKNOWN, is_immutable

#: Libraries that call a function with the command line's values, its defaults where it has none.
COMMAND_LINES = ("fire.Fire", "typer.run", "defopt.run")


class Functions:
    """What goes into the file's functions and comes out. `value_of` tells an expression's worth.

    `notes`: (line, remark) of each default that a command line can change.
    """

    def __init__(self, names: Names, value_of: Callable):
        self.notes = set()
        self._names = names
        self._value_of = value_of

    def parameter(self, parameter: ast.arg, function: ast.AST):
        """The value that every call passes for a parameter; UNKNOWN where they differ."""
        if not self._is_plain(parameter, function):
            return UNKNOWN
        uses = self._names.uses[function.name]
        calls = [self._names.parents[use] for use in uses]
        if self._is_started_by_a_command_line(uses):
            note = f"{parameter.arg}: its default is read; the command line can change it"
            self.notes.add((parameter.lineno, note))
            return self._default(parameter, function)
        if not calls or not all(self._names.function_of(call) is function for call in calls):
            return UNKNOWN
        values = []
        for call in calls:
            passed = passed_for(call, parameter.arg, function)
            if passed is None:
                values.append(self._default(parameter, function))
            else:
                values.append(UNKNOWN if passed is UNKNOWN else self._value_of(passed))
        first = values[0]
        # By their writing, since 1 == 1.0 == True and each of them means something else.
        if all(is_immutable(value) and repr(value) == repr(first) for value in values):
            return first
        return UNKNOWN

    def result(self, call: ast.Call):
        """What a call of a function with one `return` gives: a value that nobody can change."""
        returned = returned_by(self._names.function_of(call))
        if returned is None:
            return UNKNOWN
        value = self._value_of(returned)
        if isinstance(value, tuple):
            return tuple(part if is_immutable(part) else UNKNOWN for part in value)
        return value if is_immutable(value) else UNKNOWN

    def _is_plain(self, parameter: ast.arg, function: ast.AST) -> bool:
        """A parameter of a function that nobody else can call, and that has one definition."""
        names = self._names
        if not isinstance(function, ast.FunctionDef) or function.decorator_list:
            return False
        arguments = function.args
        if names.parents.get(parameter) is not arguments:
            return False
        if parameter in (arguments.vararg, arguments.kwarg):
            return False
        if isinstance(names.scopes[function], ast.ClassDef) or function.name in names.lost:
            return False
        return len(names.all_bindings(function.name)) == 1 and not names.wild

    def _is_started_by_a_command_line(self, uses: list[ast.Name]) -> bool:
        if len(uses) != 1:
            return False
        call = self._names.call_with(uses[0])
        return call is not None and self._names.path(call.func) in COMMAND_LINES

    def _default(self, parameter: ast.arg, function: ast.FunctionDef):
        arguments = function.args
        placed = [*arguments.posonlyargs, *arguments.args]
        defaults = dict(zip(reversed(placed), reversed(arguments.defaults)))
        defaults |= dict(zip(arguments.kwonlyargs, arguments.kw_defaults))
        default = defaults.get(parameter)
        return UNKNOWN if default is None else self._value_of(default)


def passed_for(call: ast.Call, parameter: str, function: ast.FunctionDef):
    """What a call passes for a parameter: an expression, None where it passes nothing, UNKNOWN
    where that is not told.
    """
    for part in call.keywords:
        if part.arg == parameter:
            return part.value
    unpacked = any(part.arg is None for part in call.keywords)
    if unpacked or any(isinstance(part, ast.Starred) for part in call.args):
        return UNKNOWN
    arguments = function.args
    for place, passed in zip((*arguments.posonlyargs, *arguments.args), call.args):
        if place.arg == parameter:
            return passed
    return None


def returned_by(function: ast.FunctionDef | None) -> ast.expr | None:
    """The expression that a function returns: its last statement, and its only way to end."""
    if function is None or not isinstance(function.body[-1], ast.Return):
        return None
    kinds = (ast.Return, ast.Yield, ast.YieldFrom)
    ends = [part for part in ast.walk(function) if isinstance(part, kinds)]
    return function.body[-1].value if len(ends) == 1 else None
