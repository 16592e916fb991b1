"""A script whose parser reads its values from a file or a launch line, together with that file."""

import dataclasses

from hpkit.check.calls import Call
from hpkit.check.files import Contents
from hpkit.check.parsers import fields_of_parts
from hpkit.check.scripts import PARSERS
from hpkit.errors import BadInput


def started_with(script: Contents, settings: Contents) -> Contents:
    """The settings as the script takes them: its own defaults beneath, its own names known.

    Raises BadInput where the script has no parser of dataclasses, or the file sets nothing.
    """
    if not settings.calls:
        raise BadInput(
            f"--with {settings.file}: expected the settings or launch lines of a training, and "
            "found none"
        )
    parts = fields_of_parts(script.file)
    if parts is None:
        raise BadInput(
            f"{script.file}: expected a script with {' or '.join(PARSERS[:2])}, whose values "
            "--with gives; this one has none"
        )
    # Of a class that is not known any name may be a field.
    taken = frozenset() if None in parts else frozenset().union(*parts)
    defaults = [call for call in script.calls if call.is_parser]
    # What the script says elsewhere is said of it alone.
    calls = []
    for given in settings.calls:
        calls.append(_joined(given, defaults[0] if defaults else None, taken))
    notes = [*script.notes, *settings.notes]
    return Contents(settings.file, calls, notes, settings.texts)


def _joined(given: Call, default: Call | None, taken: frozenset[str]) -> Call:
    """The settings over the script's defaults, held against all that its parser takes."""
    if default:
        given = _over_defaults(given, default)
    written = dataclasses.replace(
        given.written,
        origin=given.written.origin or "transformers",
        fields=taken,
        refuses_unknown=bool(taken),
        has_own_fields=not taken,
    )
    return dataclasses.replace(given, written=written)


def _over_defaults(given: Call, default: Call) -> Call:
    """The settings, with what the script says where they say nothing."""
    own = default.arguments
    told = {
        fact: value for fact, value in vars(default.written.around).items() if value is not None
    }
    written = dataclasses.replace(
        given.written,
        set_elsewhere=(),
        pins={**default.written.pins, **given.written.pins},
        unsloth=default.written.unsloth,
        name=default.name,
        origin=default.written.origin,
        around=dataclasses.replace(given.written.around, **told),
    )
    return dataclasses.replace(
        given,
        arguments=own | given.arguments,
        lines={argument: given.line for argument in own} | given.lines,
        written=written,
        places={**{fact: (given.cell, given.line) for fact in told}, **given.places},
    )
