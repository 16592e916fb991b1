"""The file's own subclasses of training arguments: the defaults that they give to fields."""

import ast

from hpkit.check.expressions import Expressions
from hpkit.check.names import Names
from hpkit.check.values import UNKNOWN


class Subclasses:
    """What a subclass of the file says about fields, its own and those of its base."""

    def __init__(self, names: Names, expressions: Expressions):
        self._names = names
        self._value = expressions.value

    def defaults(self, class_name: str) -> dict[str, tuple[object, int]]:
        """field -> (default, line), of a class of the file and of its bases in the file.

        UNKNOWN where a default is not told. Fields without one are left out.
        """
        node = self._names.training_classes.get(class_name)
        if node is None:
            return {}
        found = {}
        for base in node.bases:
            path = self._names.path(base)
            if path.startswith("<file>.") and path != f"<file>.{class_name}":
                found |= self.defaults(path.removeprefix("<file>."))
        # Without the decorator the base's own __init__ sets its fields, whatever stands here.
        if not any("dataclass" in ast.unparse(part) for part in node.decorator_list):
            return found
        for part in node.body:
            match part:
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr()):
                    # A method may set it to something else.
                    is_stored = name in self._names.stored
                    value = UNKNOWN if is_stored else self._default(part.value)
                    found[name] = value, part.lineno
        return found

    def makes_its_own_init(self, class_name: str) -> bool:
        """Whether the class's arguments are those of an __init__ of its own."""
        node = self._names.training_classes.get(class_name)
        return node is not None and any(
            isinstance(part, ast.FunctionDef) and part.name == "__init__" for part in node.body
        )

    def _default(self, node: ast.expr):
        if isinstance(node, ast.Call) and self._names.path(node.func) == "dataclasses.field":
            for part in node.keywords:
                if part.arg == "default":
                    return self._value(part.value)
            return UNKNOWN
        return self._value(node)
