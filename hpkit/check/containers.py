"""Dicts and lists that a name holds: known while every use of the name is a safe one.

A dict can be changed through any of its names, by whoever was given it. So each use in the file is
either a change that the text tells in full (`kw["seed"] = 1`), or a look that changes nothing and
hands the container to nobody; one use that is neither makes the whole unknown.
"""

import ast
from collections.abc import Callable
from typing import NamedTuple

from hpkit.check.names import Binding, Names, position
from hpkit.check.values import UNKNOWN, has_immutable_parts, is_immutable, part_at

#: Calls that only look at what they are given. Others may change it, now or later.
LOOKS = {
    "print",
    "len",
    "str",
    "repr",
    "type",
    "isinstance",
    "bool",
    "json.dumps",
    "json.dump",
    "pprint.pprint",
    "wandb.init",
    "dataclasses.asdict",
}
#: Calls whose result keeps what lies inside: harmless only where nothing inside can be changed.
COPIES = {"dict", "list", "tuple", "set", "sorted", "enumerate", "max", "min", "sum"}


class Change(NamedTuple):
    """A statement that gives a dict's key a new value, or deletes the key.

    `value` is None where the text does not tell it.
    """

    statement: ast.AST
    key: object
    value: ast.expr | None
    deletes: bool = False


class Containers:
    """What the dicts and lists of a file hold where their names are read.

    `value_of` tells what an expression is worth; the keys' values are asked of it.
    """

    def __init__(self, names: Names, value_of: Callable):
        self._names = names
        self._value_of = value_of
        self._known_changes = {}

    def at(self, name: ast.Name, binding: Binding, raw):
        """The dict or list of `name` after the changes made before this use.

        `raw` is what its binding gave it. UNKNOWN where others may change it.
        """
        scope = self._names.owner(name)
        changes = self._changes_of(name.id, scope)
        if changes is None:
            return UNKNOWN
        if not changes:
            return raw
        use = self._names.statement_of(name, scope)
        result = dict(raw)
        doubtful = {}
        for change in changes:
            value = self._value_of(change.value) if change.value else UNKNOWN
            line = (change.value or change.statement).lineno
            # A change in a branch or a function may have happened before the use, or not.
            if use is None or not self._is_step(change.statement, scope):
                doubtful[change.key] = UNKNOWN, line
            elif position(binding.node) < position(change.statement) < position(use):
                if change.deletes:
                    result.pop(change.key, None)
                else:  # what can be changed in place may have another name
                    result[change.key] = (value if is_immutable(value) else UNKNOWN), line
        return {**result, **doubtful}

    def _is_step(self, statement: ast.AST, scope: ast.AST) -> bool:
        """Does a statement run exactly once, when its scope runs?"""
        steps = (ast.Assign, ast.Expr, ast.Delete)
        return self._names.parents[statement] is scope and isinstance(statement, steps)

    def _changes_of(self, name: str, scope: ast.AST) -> list[Change] | None:
        """All changes of what a name holds, in reading order; None where a use is not safe."""
        key = (name, scope)
        if key not in self._known_changes:
            self._known_changes[key] = self._find_changes(name, scope)
        return self._known_changes[key]

    def _find_changes(self, name: str, scope: ast.AST) -> list[Change] | None:
        values = []
        for binding in self._names.bound[name][scope]:
            is_node = isinstance(binding.value, ast.AST)
            values.append(self._value_of(binding.value) if is_node else UNKNOWN)
        changes = []
        looks = []
        for use in self._names.uses[name]:
            made = self._changes_by(use)
            changes += made
            if not made:
                looks.append(use)
        # Of lists no change is followed: `numbers[0] = 5` makes the whole unknown.
        kinds = dict if changes else (dict, list, tuple)
        if not all(isinstance(value, kinds) for value in values):
            return None
        if not all(self._is_safe(use, values) for use in looks):
            return None
        return sorted(changes, key=lambda change: position(change.statement))

    def _changes_by(self, use: ast.Name) -> list[Change]:
        """The changes that this use of a name makes to its dict, none where it changes nothing."""
        above = self._names.parents[use]
        call = self._names.method_call_of(use)
        statement = self._names.parents[call or above]
        # An item of a `with`, a loop of a comprehension and a parameter's default lie in nodes that
        # have no line of their own.
        while not hasattr(statement, "lineno") and not isinstance(statement, ast.Module):
            statement = self._names.parents[statement]
        match above:
            case ast.Subscript(slice=ast.Constant(value=key), ctx=ast.Store() | ast.Del()):
                return [self._item_change(statement, key)]
            case ast.Attribute(attr="pop") if call and call.args:
                if isinstance(call.args[0], ast.Constant):
                    return [Change(statement, call.args[0].value, None, deletes=True)]
            case ast.Attribute(attr="update") if call:
                return self._update_changes(statement, call)
        return []

    def _item_change(self, statement: ast.AST, key) -> Change:
        """`d[key] = value`, `del d[key]`, or a statement that does more than that."""
        match statement:
            case ast.Assign(targets=[_]):
                return Change(statement, key, statement.value)
            case ast.Delete():
                return Change(statement, key, None, deletes=True)
        return Change(statement, key, None)

    def _update_changes(self, statement: ast.AST, call: ast.Call) -> list[Change]:
        """`d.update({"key": value}, key=value)`; none where not all keys are written out."""
        changes = []
        for part in call.args:
            if not isinstance(part, ast.Dict):
                return []
            for key, value in zip(part.keys, part.values):
                changes.append(Change(statement, getattr(key, "value", None), value))
        for part in call.keywords:
            changes.append(Change(statement, part.arg, part.value))
        if all(isinstance(change.key, str) for change in changes):
            return changes
        return []

    def _is_safe(self, use: ast.AST, values: list) -> bool:
        """Does this use neither change the dict or list nor hand it to others?

        `values`: what the name may hold, followed along `d["train"].get("lr")` to the part in use.
        """
        node = use
        key, step = self._read_of(node)
        while isinstance(key, ast.Constant):
            node = step
            values = [part_at(value, key.value) for value in values]
            key, step = self._read_of(node)
        above = self._names.parents[node]
        if all(map(is_immutable, values)):
            return True
        # Compared, shown in an f-string, or read and thrown away.
        if isinstance(above, (ast.Compare, ast.FormattedValue, ast.Expr)):
            return True
        is_flat = all(map(has_immutable_parts, values))
        call = self._names.call_with(node)
        if call:
            unpacked = isinstance(above, ast.keyword) and above.arg is None
            return self._is_safe_argument(call, unpacked, is_flat)
        return is_flat and (key is not None or self._is_shallow_look(node))

    def _read_of(self, node: ast.AST) -> tuple:
        """(key, expression) where `node[key]` or `node.get(key)` reads it, else (None, None)."""
        above = self._names.parents[node]
        if isinstance(above, ast.Subscript) and above.value is node:
            if isinstance(above.ctx, ast.Load):
                return above.slice, above
        call = self._names.method_call_of(node)
        if call and call.func.attr == "get" and call.args:
            return call.args[0], call
        return None, None

    def _is_safe_argument(self, call: ast.Call, unpacked: bool, is_flat: bool) -> bool:
        path = self._names.path(call.func)
        if path in LOOKS:
            return True
        # The libraries are trusted to leave it alone; a class of the file may do what it likes.
        if self._names.is_training(path) and not path.startswith("<"):
            return True
        return is_flat and (unpacked or path in COPIES)

    def _is_shallow_look(self, node: ast.AST) -> bool:
        """Is only what lies inside handed on, as by `{**d}`, `d.items()`, `d | e`, `for k in d`?"""
        above = self._names.parents[node]
        if isinstance(above, ast.Dict) and node in above.values:
            return above.keys[above.values.index(node)] is None
        if isinstance(above, ast.BinOp) and isinstance(above.op, (ast.BitOr, ast.Add)):
            return True
        call = self._names.method_call_of(node)
        if call and call.func.attr in ("items", "keys", "values", "copy"):
            return True
        return getattr(above, "iter", None) is node
