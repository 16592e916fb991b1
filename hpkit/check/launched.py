"""A launch line together with the script that it starts, where the repository has it."""

import ast
import dataclasses
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

from hpkit.check.calls import Call
from hpkit.check.cells import read_source
from hpkit.check.parsers import fields_of_parts
from hpkit.check.projects import folders_of_repository, stamp
from hpkit.check.scripts import read_calls
from hpkit.check.surroundings import FLAX
from hpkit.errors import BadInput
from hpkit.preflight.written import ELSEWHERE, NOWHERE

#: How many modules of the repository are gone through to the one that has the parser.
DEEP = 3


class _Parser(NamedTuple):
    """What is known of a script's parser: its training arguments, and the fields it takes."""

    training: Call
    fields: frozenset[str]


def with_its_script(call: Call) -> Call:
    """The call of a launch line, judged by what its script takes.

    Where the script is not found, or has another parser, it may have fields and defaults of its
    own under any name: nothing counts then but the values that the line gives.
    """
    if not call.script:
        return call
    script = _find(call.script, Path(call.file).absolute().parent)
    parser = _parser_of(script, DEEP) if script else None
    if parser is None:
        written = dataclasses.replace(call.written, origin="")
        return dataclasses.replace(call, written=written)
    own = parser.training.written
    # The script's own defaults are judged there, and silence here what rests on others.
    fields = (*parser.training.arguments, *own.unread)
    defaults = [name for name in fields if name not in call.arguments and name[0] != "*"]
    idle = [name for name in own.around.unread_fields or () if name in call.arguments]
    around = dataclasses.replace(
        call.written.around,
        adapter=own.around.adapter,
        soft_prompt=own.around.soft_prompt,
        other_loss=own.around.other_loss,
        own_loop=own.around.own_loop,
        named_checkpoint=own.around.named_checkpoint,
        unread_fields=tuple(idle) or None,
    )
    pins = {**own.pins, **call.written.pins}
    pinned_by = call.written.pinned_by
    if pinned_by in (ELSEWHERE, NOWHERE):  # the script's folder is nearer to it
        pins |= own.pins
        pinned_by = own.pinned_by
    if own.around.own_loop == FLAX and "transformers" not in pins:
        pins["transformers"] = "<5"
        pinned_by = "its script for Flax needs"
    written = dataclasses.replace(
        call.written,
        name=own.name,
        origin=own.origin,
        pins=pins,
        pinned_by=pinned_by,
        unsloth=own.unsloth,
        set_elsewhere=tuple(defaults),
        fields=parser.fields,
        around=around,
    )
    return dataclasses.replace(call, written=written)


def _find(name: str, folder: Path) -> Path | None:
    """The file of a script or module, `train/run.py` or `train.run`, seen from a folder."""
    if not name.endswith(".py"):
        name = name.replace(".", "/") + ".py"
    plain = re.sub(r"^\./", "", name)
    for parent in folders_of_repository(folder):
        for place in (parent / plain, parent / "src" / plain):
            if place.is_file():
                return place
    return None


def _parser_of(script: Path, deep: int) -> _Parser | None:
    """The parser of a script, or of the nearest module of the repository that it imports."""
    try:
        found, modules = _read(script, stamp(script))
    except BadInput:
        return None
    for module in modules if deep else ():
        if found is not None:
            break
        file = _find(module, script.parent)
        if file is not None and file != script:
            found = _parser_of(file, deep - 1)
    return found


@cache
def _read(script: Path, _changed: float) -> tuple[_Parser | None, tuple[str, ...]]:
    """(the parser, the modules that the script imports from). Raises BadInput."""
    parts = fields_of_parts(str(script))
    if parts is not None:
        calls, _ = read_calls(script)
        for call in calls:
            # Two dataclasses of one parser share no field: those of the trainer's are enough.
            if call.is_parser and call.written.origin:
                fields = frozenset().union(*filter(None, parts))
                return _Parser(call, fields), ()
        return None, ()
    modules = []
    for node in ast.walk(read_source(script).tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules.append(node.module)
    return None, tuple(dict.fromkeys(modules))
