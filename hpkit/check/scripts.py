"""The calls that set training arguments in a Python script or notebook, which is never run."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

from hpkit.check.cells import Source, nesting_is_bad_input, read_source
from hpkit.check.expressions import Expressions
from hpkit.check.names import Names, position
from hpkit.check.values import UNKNOWN, without_lines

#: Arguments that older trainers took themselves; a trainer's call matters only where it has one.
MOVED_ARGUMENTS = {
    "max_seq_length",
    "packing",
    "dataset_num_proc",
    "tokenizer",
    "dataset_text_field",
}
#: What draws random weights: adapters, models made from a config, heads that a model gets anew.
DRAWS_WEIGHTS = re.compile(
    r"""
    peft\.get_peft_model
    | transformers\.(
        .*\.from_config
        | (?!Auto|DataCollator)\w+(Model|For[A-Z]\w+)
        | AutoModelFor\w*(Classification|Answering|Choice)\.from_pretrained
    )
    """,
    re.VERBOSE,
)
#: Names, of any library, of what sets torch's seed.
SEEDERS = {"set_seed", "manual_seed", "seed_everything", "enable_full_determinism"}
PARSER_NOTE = (
    "HfArgumentParser reads values from the command line; they cannot be told from the file"
)


@dataclass(frozen=True)
class Call:
    """A call that sets training arguments. Lines count from 1, in a notebook within their cell.

    `file`: the path as given. `cell`: the number of the code cell among all cells from 1, None in
    a script. `name`: the last part of the callable's name, with import aliases undone.
    `arguments`: name -> value where the text tells it. `unread`: names of the others, an unpacked
    mapping as "**name" and positional arguments as "*args". `lines`: argument -> where it is
    written. `unseeded`: what draws random weights in this file before a seed is set, None where
    nothing does.
    """

    file: str
    cell: int | None
    line: int
    name: str
    arguments: dict
    unread: tuple[str, ...]
    lines: dict
    unseeded: str | None


class _CallFinder:
    """The calls of one file, and what else is worth a remark."""

    def __init__(self, source: Source):
        self._source = source
        self._names = Names(source.tree, source.lost)
        self._expressions = Expressions(self._names)
        self._in_order = sorted(self._names.calls, key=position)
        self._notes = set()  # (line, remark)

    def find(self) -> list[Call]:
        """The calls that set training arguments, in reading order."""
        # One answer for the whole file: which model a call trains is not told by the text.
        unseeded = self._unseeded()
        found = []
        for node in self._in_order:
            path = self._names.path(node.func)
            name = path.rpartition(".")[2]
            is_training = self._names.is_training(path)
            if name == "HfArgumentParser":
                self._notes.add((node.lineno, PARSER_NOTE))
            elif is_training or name.endswith("Trainer"):
                given, unread = self._arguments(node, name)
                if is_training or MOVED_ARGUMENTS & set(given):
                    found.append(self._call(node, name, given, unread, unseeded))
        self._note_later_changes()
        return found

    def notes(self) -> list[str]:
        """A line on each thing that `find` came across, in reading order."""
        notes = sorted(self._notes | self._expressions.options.notes)
        return [f"{self._source.shown_place(at)}: {note}" for at, note in notes]

    def _unseeded(self) -> str | None:
        """The first call that draws random weights before any that sets a seed."""
        for call in self._in_order:
            if any(part.arg == "model_init" for part in call.keywords):
                return None  # a Trainer sets the seed before it calls this
        for call in self._in_order:
            path = self._names.path(call.func)
            if path.rpartition(".")[2] in SEEDERS:
                return None
            if DRAWS_WEIGHTS.fullmatch(path):
                name = path.partition(".")[2]
                return f"{name} ({self._source.shown_place(call.lineno)})"
        return None

    def _arguments(self, node: ast.Call, name: str) -> tuple[dict, list[str]]:
        """({argument: (value, line)}, what cannot be told by name) of one call."""
        value_of = self._expressions.value
        named = {}
        for part in node.keywords:
            if part.arg:
                named[part.arg] = value_of(part.value), part.lineno
        given = {}
        unread = []
        positional = node.args
        # A Trainer's first argument is the model, and a class of the file may take anything first.
        first_is_folder = not name.endswith("Trainer") and name not in self._names.training_classes
        if positional and first_is_folder and not isinstance(positional[0], ast.Starred):
            folder, *positional = positional
            given["output_dir"] = value_of(folder), folder.lineno
        if positional:
            unread.append("*args")
        for part in node.keywords:
            if part.arg:
                continue
            unpacked = value_of(part.value)
            if isinstance(unpacked, dict):
                given |= {key: pair for key, pair in unpacked.items() if isinstance(key, str)}
            else:
                unread.append("**" + ast.unparse(part.value)[:60])
        # Python refuses an argument given twice; of a call that never ran, the plain one is meant.
        return given | named, unread

    def _call(self, node: ast.Call, name: str, given: dict, unread: list, unseeded) -> Call:
        cell, line = self._source.place(node.lineno)
        arguments = {}
        untold = []
        lines = {}
        for argument, (value, at) in given.items():
            its_cell, its_line = self._source.place(at)
            # What is written in another cell gets the line of the call.
            lines[argument] = its_line if its_cell == cell else line
            known = without_lines(value)
            if known is UNKNOWN:
                untold.append(argument)
            else:
                arguments[argument] = known
        return Call(
            file=self._source.file,
            cell=cell,
            line=line,
            name=name,
            arguments=arguments,
            unread=(*untold, *unread),
            lines=lines,
            unseeded=unseeded,
        )

    def _note_later_changes(self):
        """Notes `args.seed = 2` where `args` may be training arguments made before."""
        for node in self._names.stores:
            if not isinstance(node.value, ast.Name):
                continue
            scope = self._names.owner(node.value)
            for binding in self._names.bound[node.value.id].get(scope, ()):
                if not isinstance(binding.value, ast.Call):
                    continue
                if self._names.is_training(self._names.path(binding.value.func)):
                    note = f"{ast.unparse(node)} is set after the call; this value is not read"
                    self._notes.add((node.lineno, note))


def read_calls(path: str | Path) -> tuple[list[Call], list[str]]:
    """(calls, notes): the calls that set training arguments in a .py or .ipynb file, and remarks.

    Both come in reading order, a remark in one line each. The file is never run or imported.
    Counted are calls of names that end in TrainingArguments, of TRL's configs, of subclasses
    defined in the file, and trainers that take an argument of MOVED_ARGUMENTS themselves. A
    default of argparse counts as the argument's value, with a note. A cell with a syntax error is
    passed over with a note. Raises BadInput for what is not a readable Python script or notebook.
    """
    source = read_source(path)
    with nesting_is_bad_input(source.file):
        finder = _CallFinder(source)
        calls = finder.find()
    return calls, source.notes + finder.notes()
