"""A script whose parser reads its values from a file or a launch line, together with that file."""

import ast
import dataclasses

from hpkit.check.calls import Call
from hpkit.check.cells import read_source
from hpkit.check.expressions import Expressions
from hpkit.check.files import Contents
from hpkit.check.names import Names, position
from hpkit.check.scripts import PARSERS
from hpkit.check.subclasses import Subclasses
from hpkit.errors import BadInput
from hpkit.preflight.libraries import known_classes, names_of, training_argument_names


def started_with(script: Contents, settings: Contents) -> Contents:
    """The settings as the script takes them: its own defaults beneath, its own names known.

    Raises BadInput where the script has no parser of dataclasses, or the file sets nothing.
    """
    if not settings.calls:
        raise BadInput(
            f"--with {settings.file}: expected the settings or launch lines of a training, and "
            "found none"
        )
    taken = _taken_by(script.file)
    if taken is None:
        raise BadInput(
            f"{script.file}: expected a script with {' or '.join(PARSERS[:2])}, whose values "
            "--with gives; this one has none"
        )
    defaults = [call for call in script.calls if call.is_parser]
    # What the script says elsewhere is said of it alone.
    calls = []
    for given in settings.calls:
        calls.append(_joined(given, defaults[0] if defaults else None, taken))
    notes = [*script.notes, *settings.notes]
    return Contents(settings.file, calls, notes, settings.texts)


def _joined(given: Call, default: Call | None, taken: frozenset[str] | None) -> Call:
    """The settings over the script's defaults."""
    own = default.arguments if default else {}
    written = given.written
    name = written.name
    origin = written.origin
    around = written.around
    if default:
        name = default.name
        origin = default.written.origin
        told = {
            field: value
            for field, value in vars(default.written.around).items()
            if value is not None
        }
        around = dataclasses.replace(around, **told)
    pins = written.pins
    unsloth = written.unsloth
    if default:
        pins = {**default.written.pins, **pins}
        unsloth = default.written.unsloth
    written = dataclasses.replace(
        written,
        pins=pins,
        unsloth=unsloth,
        name=name,
        origin=origin or "transformers",
        fields=taken or frozenset(),
        refuses_unknown=bool(taken),
        has_own_fields=not taken,
        around=around,
    )
    lines = {argument: given.line for argument in own} | given.lines
    places = {fact: (given.cell, given.line) for fact in (default.places if default else ())}
    return dataclasses.replace(
        given,
        arguments=own | given.arguments,
        lines=lines,
        written=written,
        places={**places, **given.places},
    )


def _taken_by(file: str) -> frozenset[str] | None:
    """The names that the script's parser takes; empty where one of its classes is not known.

    None for a script without a parser.
    """
    source = read_source(file)
    names = Names(source.tree, source.lost)
    subclasses = Subclasses(names, Expressions(names))
    for call in sorted(names.calls, key=position):
        if names.path(call.func).rpartition(".")[2] not in PARSERS:
            continue
        classes = call.args[0] if call.args else None
        parts = classes.elts if isinstance(classes, (ast.Tuple, ast.List)) else [classes]
        found = set()
        for part in parts:
            fields = _fields(part, names, subclasses)
            if fields is None:
                return frozenset()
            found |= fields
        return frozenset(found)
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
