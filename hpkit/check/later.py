"""What a file sets on training arguments after the call that makes them."""

import ast
from collections.abc import Mapping
from typing import NamedTuple

from hpkit.check.names import SETTERS, Names
from hpkit.preflight.arguments import SUCCESSORS
from hpkit.preflight.libraries import takes, version_in_force


class _Change(NamedTuple):
    """`args.name = …`, or `setattr(args, "name", …)`; `name` is `**later` where it may be any."""

    owner: ast.expr
    name: str
    line: int


class Later:
    """The attributes that a file sets, by the call that made the object."""

    def __init__(self, names: Names):
        self._names = names
        self._changes = [_Change(s.value, s.attr, s.lineno) for s in names.stores]
        for call in names.calls:
            if getattr(call.func, "id", "") in SETTERS and call.args:
                self._changes.append(_Change(call.args[0], _name_set(call), call.lineno))
            if getattr(call.func, "attr", "").startswith("set_"):
                self._changes.append(_Change(call.func.value, "**later", call.lineno))

    def names_set(self, node: ast.Call) -> list[str]:
        """The arguments that are set after a call, `**later` where it may be any."""
        return [change.name for change in self._changes if self._is_made_by(change.owner, node)]

    def unread(self, node: ast.Call, pins: Mapping[str, str]) -> dict[str, int]:
        """name -> line, of what transformers read once: an attribute that does nothing today."""
        version = version_in_force("transformers", pins)
        found = {}
        for change in self._changes:
            if change.name not in SUCCESSORS or not isinstance(change.owner, ast.Name):
                continue
            is_given = any(part.arg == change.name for part in node.keywords)
            if is_given or takes("transformers", "TrainingArguments", change.name, version):
                continue
            if self._names.only_value(change.owner) is node:
                found.setdefault(change.name, change.line)
        return found

    def notes(self) -> set[tuple[int, str]]:
        """(line, remark) on `args.seed = 2` where `args` may be training arguments made before."""
        found = set()
        for store in self._names.stores:
            for made in self._makers(store.value):
                if self._names.is_training(self._names.path(made.func)):
                    note = f"{ast.unparse(store)} is set after the call; this value is not read"
                    found.add((store.lineno, note))
        return found

    def _is_made_by(self, owner: ast.expr, node: ast.Call) -> bool:
        return node in self._makers(owner)

    def _makers(self, owner: ast.expr) -> list[ast.Call]:
        """The calls that a name is bound to, in whatever place."""
        if not isinstance(owner, ast.Name):
            return []
        bindings = self._names.bound[owner.id].get(self._names.owner(owner), ())
        return [one.value for one in bindings if isinstance(one.value, ast.Call)]


def _name_set(call: ast.Call) -> str:
    """The name in `setattr(args, "name", value)`."""
    name = call.args[1] if len(call.args) > 1 else None
    if isinstance(name, ast.Constant) and isinstance(name.value, str):
        return name.value
    return "**later"
