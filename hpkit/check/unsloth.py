"""Whether Unsloth, which patches TRL and has limits of its own, is there when a call is made."""

import ast
from collections.abc import Mapping

from hpkit.check.names import Names, position
from hpkit.preflight.libraries import BESIDE_UNSLOTH


class Unsloth:
    """Unsloth in one file that imports it, or does not. `imported`: its first import, if any."""

    def __init__(self, names: Names, is_imported: bool):
        self._names = names
        self.imported = self._first_import() if is_imported else None

    def _first_import(self) -> ast.AST:
        """The whole file where the import stands in what was not read."""
        for node in ast.walk(self._names.tree):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            if any(module.partition(".")[0] == "unsloth" for module in modules):
                return node
        return self._names.tree

    def is_there(self, node: ast.AST) -> bool:
        """Is it imported when a call is made? Later it changes nothing that was made before."""
        tree = self._names.tree
        if self.imported in (None, tree):
            return self.imported is tree
        # When a function is called is not followed.
        scopes = self._names.scopes
        is_in_order = scopes.get(self.imported, tree) is tree and scopes.get(node, tree) is tree
        return not is_in_order or position(self.imported) < position(node)

    def pins_at(self, node: ast.AST, pins: Mapping[str, str]) -> Mapping[str, str]:
        """The pins that hold for a call."""
        return BESIDE_UNSLOTH | pins if self.is_there(node) else pins
