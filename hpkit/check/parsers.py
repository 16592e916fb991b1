"""What a script's parser of dataclasses takes."""

import ast

from hpkit.check.cells import read_source
from hpkit.check.expressions import Expressions
from hpkit.check.names import Names, position
from hpkit.check.scripts import PARSERS
from hpkit.check.subclasses import Subclasses
from hpkit.preflight.libraries import known_classes, names_of, training_argument_names


def fields_of_parts(file: str) -> list[set[str] | None] | None:
    """The fields of each dataclass that the script's parser fills; None of one that is not known.

    None for a script without a parser.
    """
    source = read_source(file)
    names = Names(source.tree, source.lost)
    subclasses = Subclasses(names, Expressions(names))
    for call in sorted(names.calls, key=position):
        if names.path(call.func).rpartition(".")[2] in PARSERS:
            classes = call.args[0] if call.args else None
            parts = classes.elts if isinstance(classes, (ast.Tuple, ast.List)) else [classes]
            return [_fields(part, names, subclasses) for part in parts]
    return None


def _fields(part: ast.expr | None, names: Names, subclasses: Subclasses) -> set[str] | None:
    """The fields of one dataclass, its bases' among them; None where the text does not tell."""
    path = names.path(part) if part is not None else ""
    name = path.rpartition(".")[2]
    package = names.library(path)
    if path.startswith("<file>"):
        node = names.only_value(part)
        if not isinstance(node, ast.ClassDef):
            return None
        found = {p.target.id for p in node.body if isinstance(p, ast.AnnAssign)}
        for base in node.bases:
            fields = _fields(base, names, subclasses)
            if fields is None:
                return None
            found |= fields
        return found
    if package == "transformers" and "TrainingArguments" in name:
        return set(training_argument_names())
    if package == "trl" and name in known_classes("trl"):
        fields = set(names_of("trl", name))
        return fields | set(training_argument_names()) if name.endswith("Config") else fields
    return None
