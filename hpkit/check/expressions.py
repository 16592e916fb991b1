"""What an expression is worth, read without running it.

A name's value is looked up where it is asked for, in the one assignment that can have given it.
Where a branch, a loop, a call or a second name for one dict leaves a doubt, the value is UNKNOWN:
no value is better than a wrong one.
"""

import ast
from collections.abc import Iterable

from hpkit.check.containers import Containers
from hpkit.check.functions import Functions
from hpkit.check.names import HIDDEN_SETTERS, SETTERS, Names
from hpkit.check.options import Namespaces, Options
from hpkit.check.values import (
    CASTS,
    UNKNOWN,
    arithmetic,
    cast,
    is_immutable,
    part_at,
    without_lines,
)


class Expressions:
    """The values of a file's expressions."""

    def __init__(self, names: Names):
        self.options = Options(names, self.value)
        self.functions = Functions(names, self.value)
        self._names = names
        self._namespaces = Namespaces(names, self.options)
        self._containers = Containers(names, self.value)
        self._known = {}

    @property
    def notes(self) -> set:
        """(line, remark) of each default that was read, and that a command line can change."""
        return self.options.notes | self.functions.notes

    def value(self, node: ast.AST):
        """What an expression, or the node of `x += 1`, is worth; UNKNOWN where nothing proves it.

        A dict comes as key -> (value, line).
        """
        if node not in self._known:
            self._known[node] = UNKNOWN  # what depends on itself stays so
            self._known[node] = self._read(node)
        return self._known[node]

    def may_be_set(self, node: ast.expr, deep: int = 3) -> bool:
        """Does an expression hang on a parameter or an option, so that a caller may change it?"""
        for part in ast.walk(node):
            if isinstance(part, ast.Attribute) and self._namespaces.holds(part.value):
                return True
            binding = self._names.binding(part) if isinstance(part, ast.Name) else None
            if binding is None:
                continue
            if isinstance(binding.value, ast.arg):
                return True
            is_made = isinstance(binding.value, ast.expr)
            if deep and is_made and self.may_be_set(binding.value, deep - 1):
                return True
        return False

    # Names and sums are read in `value` and here alone: a method more between the two would take a
    # frame for each operand of `"a" + "b" + ...`, and Python allows about a thousand frames.
    def _read(self, node: ast.AST):
        match node:
            # bool is an int; bytes, complex numbers and `...` are no training arguments
            case ast.Constant(value=int() | float() | str() | None):
                return node.value
            case ast.Name():
                binding = self._names.binding(node)
                if binding is not None and isinstance(binding.value, ast.arg):
                    return self.functions.parameter(binding.value, binding.scope)
                if binding is None or not isinstance(binding.value, (ast.expr, ast.AugAssign)):
                    return UNKNOWN
                value = self.value(binding.value)
                return value if is_immutable(value) else self._containers.at(node, binding, value)
            case ast.List(elts=parts) | ast.Tuple(elts=parts):
                if any(isinstance(part, ast.Starred) for part in parts):
                    return UNKNOWN
                kind = list if isinstance(node, ast.List) else tuple
                return kind(map(self.value, parts))
            case ast.Dict():
                return self._read_dict(zip(node.keys, node.values))
            case ast.UnaryOp(op=ast.USub()):
                return arithmetic(ast.Mult(), -1, self.value(node.operand))
            case ast.UnaryOp(op=ast.Not()):
                value = without_lines(self.value(node.operand))
                return UNKNOWN if value is UNKNOWN else not value
            case ast.BinOp(op=ast.BitOr()):  # of two dicts; of numbers it is UNKNOWN
                return self._read_dict([(None, node.left), (None, node.right)])
            # the target of `x += 1` is worth what `x` was before
            case ast.BinOp(left=left, right=right) | ast.AugAssign(target=left, value=right):
                return arithmetic(node.op, self.value(left), self.value(right))
            case ast.IfExp():
                return self._read_branches(node)
            case ast.Subscript():
                return part_at(self.value(node.value), self.value(node.slice))
            case ast.Attribute():
                return self._read_attribute(node)
            case ast.Call():
                return self._read_call(node)
        return UNKNOWN

    def _read_dict(self, pairs: Iterable):
        """The dict of (key, value) pairs of expressions.

        The key is None for what is unpacked, and a plain text for a keyword of `dict(...)`.
        """
        made = {}
        for key, node in pairs:
            value = self.value(node)
            if key is None:
                if not isinstance(value, dict):
                    return UNKNOWN
                made |= value
                continue
            name = self.value(key) if isinstance(key, ast.AST) else key
            if name is not None and not isinstance(name, (str, int, float)):
                return UNKNOWN
            made[name] = value, getattr(key, "lineno", node.lineno)
        return made

    def _read_branches(self, node: ast.IfExp):
        """`a if condition else b`, known where both are the same, since either may come."""
        one = self.value(node.body)
        other = self.value(node.orelse)
        # By their writing, since 1 == 1.0 == True and each of them means something else.
        if is_immutable(one) and type(one) is type(other) and repr(one) == repr(other):
            return one
        return UNKNOWN

    def _read_attribute(self, node: ast.Attribute):
        names = self._names
        if names.wild or names.words & HIDDEN_SETTERS or node.attr in names.stored:
            return UNKNOWN
        if self._namespaces.holds(node.value):
            return self.options.default_of(node.attr)
        # A namespace that is handed to setattr is none; a class may have got there under another
        # name, and then only names that are written out are known.
        if names.words & SETTERS and not self._names.sets_by_name_alone:
            return UNKNOWN
        return self._read_class_constant(node)

    def _read_class_constant(self, node: ast.Attribute):
        """`CFG.x`, of a class of constants or of `CFG()`.

        UNKNOWN where the file does anything with the class but ask it for attributes or call it.
        """
        names = self._names
        aliases = [node.value]
        made = names.only_value(node.value)
        if isinstance(made, ast.Call) and not made.args and not made.keywords:
            aliases.append(made.func)
            made = names.only_value(made.func)
        if not isinstance(made, ast.ClassDef) or not self._holds_only_constants(made):
            return UNKNOWN
        bindings = names.bound[node.attr].get(made, [])
        if len(bindings) != 1 or not isinstance(bindings[0].value, ast.expr):
            return UNKNOWN
        for alias in aliases:
            for use in names.uses[alias.id]:
                above = names.parents[use]
                is_made = getattr(above, "func", None) is use  # `CFG()`
                if not isinstance(above, ast.Attribute) and not is_made:
                    return UNKNOWN
        value = self.value(bindings[0].value)
        # A list or dict of a class belongs to all that reach the class.
        return value if is_immutable(value) else UNKNOWN

    def _read_asdict(self, node: ast.expr):
        """`asdict(Settings())`, of a dataclass of constants that nobody changes."""
        if self._names.wild or self._names.words & HIDDEN_SETTERS:
            return UNKNOWN
        made = self._names.only_value(node) or node
        if not isinstance(made, ast.Call) or made.args or made.keywords:
            return UNKNOWN
        owner = self._names.only_value(made.func)
        if not isinstance(owner, ast.ClassDef) or not self._holds_only_constants(owner):
            return UNKNOWN
        if isinstance(node, ast.Name):
            for use in self._names.uses[node.id]:
                call = self._names.call_with(use)
                is_look = call is not None and self._names.path(call.func) == "dataclasses.asdict"
                is_read = isinstance(self._names.parents[use], ast.Attribute)
                if not is_look and not is_read:
                    return UNKNOWN
        values = {}
        for part in owner.body:
            if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
                if "ClassVar" in ast.unparse(part.annotation):
                    continue
                value = self.value(part.value) if part.value is not None else UNKNOWN
                stored = part.target.id in self._names.stored
                values[part.target.id] = (UNKNOWN if stored else value), part.lineno
        return values

    def _holds_only_constants(self, made: ast.ClassDef) -> bool:
        """A class without bases and methods; `@dataclass` changes no default."""
        if made.bases or made.keywords:
            return False
        plain = (ast.Assign, ast.AnnAssign, ast.Pass, ast.Expr)
        if not all(isinstance(part, plain) for part in made.body):
            return False
        decorators = made.decorator_list
        return all(self._names.path(part) == "dataclasses.dataclass" for part in decorators)

    def _read_call(self, call: ast.Call):
        """`d.get("lr", 0)`, `dict(...)` and casts such as `float("1e-4")`."""
        match call:
            case ast.Call(
                func=ast.Attribute(value=owner, attr="get"),
                args=[ast.Constant(value=str(key)), *rest],
            ):
                container = self.value(owner)
                default = self.value(rest[0]) if rest else None
                if isinstance(container, dict):
                    return container.get(key, [default])[0]
                return UNKNOWN
        # The path and not the name, since a file may define a `dict` or `float` of its own.
        path = self._names.path(call.func)
        if path == "dataclasses.asdict" and len(call.args) == 1:
            return self._read_asdict(call.args[0])
        if path == "dict" and len(call.args) < 2:
            pairs = [(None, part) for part in call.args]
            pairs += [(part.arg, part.value) for part in call.keywords]
            return self._read_dict(pairs)
        if len(call.args) == 1 and not call.keywords and path in CASTS:
            return cast(path, self.value(call.args[0]))
        return self.functions.result(call)
