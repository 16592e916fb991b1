"""How many rows a data set has, as far as the text tells, and whether it is a stream."""

import ast
import math
import re
from collections.abc import Callable
from typing import NamedTuple

from hpkit.check.names import Names, keyword
from hpkit.check.values import UNKNOWN

#: Steps on a data set that keep its rows, and their number.
KEEPS_ROWS = {
    "map",
    "shuffle",
    "rename_column",
    "rename_columns",
    "remove_columns",
    "select_columns",
    "add_column",
    "cast",
    "cast_column",
    "class_encode_column",
    "with_format",
    "set_format",
    "with_transform",
    "flatten_indices",
    "sort",
}
#: The name of a function that makes fewer, longer rows of a data set, or more.
REGROUPS = re.compile(r"group|chunk|split|pack|concat|window|augment", re.IGNORECASE)


class Rows(NamedTuple):
    """A data set: how many rows it has, None where nobody knows, whether it is a stream, and the
    line that says how many.
    """

    count: int | None = None
    is_stream: bool = False
    line: int = 0


class DataSets:
    """Follows a data set from where it is used to where it is loaded.

    `value_of` tells what an expression is worth.
    """

    def __init__(self, names: Names, value_of: Callable):
        self._names = names
        self._value = value_of

    def of(self, node: ast.expr | None, depth: int = 0) -> Rows | None:
        """What is known of a data set, followed from step to step to where it is loaded."""
        if depth > 40:
            return None
        match node:
            case ast.Name():
                origin = self._names.origin(node)
                return None if origin is node else self.of(origin, depth + 1)
            case ast.Subscript(value=owner, slice=ast.Constant(value=str(part))):
                return self._rows_of_part(owner, part, depth)
            case ast.Call(func=ast.Attribute(value=owner, attr=step)) if step != "load_dataset":
                return self._rows_after(self.of(owner, depth + 1), step, node)
            case ast.Call() if self._names.path(node.func) == "datasets.load_dataset":
                return self._loaded_rows(node)
        return None

    def _loaded_rows(self, call: ast.Call) -> Rows:
        streaming = keyword(call, "streaming")
        is_stream = streaming is not None and self._value(streaming) is True
        split = keyword(call, "split")
        written = self._value(split) if split is not None else UNKNOWN
        if isinstance(written, str):
            sliced = re.fullmatch(r"\w+\[(\d*):(\d+)\]", written)
            if sliced:
                count = max(int(sliced[2]) - int(sliced[1] or 0), 0)
                return Rows(count, is_stream, split.lineno)
        return Rows(is_stream=is_stream, line=call.lineno)

    def _rows_of_part(self, owner: ast.expr, part: str, depth: int) -> Rows | None:
        """`data["train"]`, of a data set's splits or of `train_test_split(test_size=…)`."""
        origin = self._names.origin(owner)
        if isinstance(owner, ast.Name) and self._gets_other_parts(owner.id):
            return None
        if isinstance(origin, ast.Call) and getattr(origin.func, "attr", "") == "train_test_split":
            whole = self.of(origin.func.value, depth + 1)
            size = keyword(origin, "test_size")
            share = self._value(size) if size is not None else UNKNOWN
            if keyword(origin, "train_size") is not None:
                share = UNKNOWN
            if whole is None or whole.count is None or part != "train":
                return whole._replace(count=None) if whole else None
            if isinstance(share, float):
                return whole._replace(count=whole.count - math.ceil(whole.count * share))
            if isinstance(share, int):
                return whole._replace(count=whole.count - share)
            return whole._replace(count=None)
        whole = self.of(origin, depth + 1)
        # Each split of a sliced data set has rows of its own.
        return whole._replace(count=None) if whole and part != "train" else whole

    def _gets_other_parts(self, name: str) -> bool:
        """`data["train"] = …` puts something else in its place."""
        for use in self._names.uses[name]:
            above = self._names.parents[use]
            if isinstance(above, ast.Subscript) and isinstance(above.ctx, ast.Store):
                return True
        return False

    def _rows_after(self, rows: Rows | None, step: str, call: ast.Call) -> Rows | None:
        """A data set after one step."""
        if step in ("select", "take") and call.args:
            count = self._chosen(call.args[0])
            if count is None:
                return None
            stream = bool(rows and rows.is_stream)
            if rows and rows.count:
                count = min(count, rows.count)
            return Rows(count, stream, call.lineno)
        if rows is None:
            return None
        if step not in KEEPS_ROWS:
            # What stays a stream stays one; how many rows are left nobody knows.
            return (
                Rows(is_stream=rows.is_stream, line=rows.line)
                if step in ("filter", "skip")
                else None
            )
        function = call.args[0] if call.args else keyword(call, "function")
        if step == "map" and function is not None:
            overflows = "return_overflowing_tokens" in self._names.keywords
            if overflows or REGROUPS.search(ast.unparse(function)):
                return rows._replace(count=None)
        return rows

    def _chosen(self, node: ast.expr) -> int | None:
        """How many `range(150)`, or a plain number, choose."""
        value = self._value(node)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(node, ast.Call) and self._names.path(node.func) == "range":
            ends = [self._value(part) for part in node.args]
            if all(isinstance(end, int) for end in ends):
                return len(range(*ends))
        return None
