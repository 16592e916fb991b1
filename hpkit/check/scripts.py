"""The calls that set training arguments in a Python script or notebook, which is never run."""

import ast
import dataclasses
import re
from pathlib import Path

from hpkit.check.calls import Call
from hpkit.check.cells import Source, nesting_is_bad_input, read_source
from hpkit.check.expressions import Expressions
from hpkit.check.later import Later
from hpkit.check.launches import launch_calls
from hpkit.check.names import LIBRARIES, Names, position
from hpkit.check.pins import pins_of
from hpkit.check.subclasses import Subclasses
from hpkit.check.surroundings import CodeAround
from hpkit.check.tokenizers import Seen
from hpkit.check.unsloth import Unsloth
from hpkit.check.values import UNKNOWN, without_lines
from hpkit.preflight.arguments import SUCCESSORS
from hpkit.preflight.libraries import (
    GONE_MODULES,
    last_import,
    last_with,
    number_of,
    takes,
    version_in_force,
)
from hpkit.preflight.written import Surroundings, Written

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
#: What reads dataclasses of arguments from the command line, or from a file of values.
PARSERS = ("HfArgumentParser", "TrlParser", "H4ArgumentParser")
PARSER_NOTE = (
    "reads values from the command line or a file; give them with --with: what is written here "
    "alone is checked"
)


class _CallFinder:
    """The calls of one file, and what else is worth a remark."""

    def __init__(self, source: Source):
        self._source = source
        self._names = Names(source.tree, source.lost)
        self._expressions = Expressions(self._names)
        self._subclasses = Subclasses(self._names, self._expressions)
        self._later = Later(self._names)
        self._in_order = sorted(self._names.calls, key=position)
        self._notes = set()  # (line, remark)
        self._gone = {}  # what cannot be imported -> its line
        self._late = {}  # an attribute that is set after the call -> its line
        self._pins = {}
        self._pinned_by = ""
        self._probed = self._probed_names()
        # Most files import none, and looking through a project takes longer than reading them.
        if any(map(self._imports, LIBRARIES)):
            self._pins, self._pinned_by = pins_of(source.file, source.texts)
        self._unsloth = Unsloth(self._names, self._imports("unsloth"))

    def _probed_names(self) -> frozenset[str]:
        """Arguments that the file looks for in a signature before it gives them."""
        words = self._names.words
        if not {"import inspect", "inspect", ".__dataclass_fields__", "dataclasses.fields"} & words:
            return frozenset()
        found = set()
        for node in self._names.parents:
            match node:
                case ast.Compare(left=ast.Constant(value=str() as name), ops=[ast.In()]):
                    found.add(name)
        return frozenset(found)

    def _imports(self, package: str) -> bool:
        """Does the file import a package, or a module of it?"""
        for word in self._names.words:
            module = word.removeprefix("import ")
            if module == package or module.startswith(package + "."):
                return True
        return False

    def find(self) -> list[Call]:
        """The calls that set training arguments, in reading order."""
        # One answer for the whole file: which model a call trains is not told by the text.
        unseeded = self._unseeded()
        facts = CodeAround(self._names, self._expressions).facts()
        gone = self._gone_imports()
        if gone is not None:
            facts["gone_imports"] = gone
        found = []
        for node in self._in_order:
            path = self._names.path(node.func)
            name = path.rpartition(".")[2]
            if name in PARSERS:
                found += self._parsed_classes(node, name, facts)
            elif self._names.is_training(path):
                found += self._training_call(node, path, unseeded, facts)
            elif name.endswith("Trainer"):
                found += self._trainer_call(node, path)
        if gone is not None and not any("gone_imports" in call.places for call in found):
            found.append(self._bare_call(facts, gone.line))
        self._notes |= self._later.notes()
        return found

    def notes(self) -> list[str]:
        """A line on each thing that `find` came across, in reading order."""
        notes = sorted(self._notes | self._expressions.notes)
        return [f"{self._source.shown_place(at)}: {note}" for at, note in notes]

    def _unseeded(self) -> str | None:
        """The first call that draws random weights before any that sets a seed."""
        for call in self._in_order:
            if any(part.arg == "model_init" for part in call.keywords):
                return None  # a Trainer sets the seed before it calls this
        names = [self._names.path(call.func) for call in self._in_order]
        seeds = any(path.rpartition(".")[2] in SEEDERS for path in names)
        for call in self._in_order:
            path = self._names.path(call.func)
            if path.rpartition(".")[2] in SEEDERS:
                return None
            # When a function is called is not followed.
            if seeds and self._names.scopes[call] is not self._names.tree:
                return None
            if DRAWS_WEIGHTS.fullmatch(path):
                name = path.partition(".")[2]
                return f"{name} ({self._source.shown_place(call.lineno)})"
        return None

    def _gone_imports(self) -> Seen | None:
        """What the file imports from a library that no longer has it, in the version in force."""
        found = []
        line = 0
        for node in self._names.imports:
            module = node.module or ""
            package = "trl" if module in GONE_MODULES else module
            if package not in ("transformers", "trl") or node.level or self._may_fail(node):
                continue
            version = version_in_force(package, self._unsloth.pins_at(node, self._pins))
            names = [alias.name for alias in node.names] if module == package else [module]
            for name in names:
                last = last_import(package, name)
                if last is None or (self._unsloth.imported and package == "trl"):
                    continue
                if version.number > number_of(last):
                    found.append((package, name))
                    line = line or node.lineno
                    self._gone[name] = node.lineno
        if not found:
            return None
        works = {package: self._newest_with(package) for package, _ in found}
        return Seen(tuple((package, name, works[package]) for package, name in found), line)

    def _newest_with(self, package: str) -> str:
        """The newest version that has all that is gone, and takes what the file gives it."""
        lasts = [last_import(package, name) for name in self._gone]
        for node in self._in_order:
            name = self._names.path(node.func).rpartition(".")[2]
            if name in self._gone:
                lasts += [last_with(package, name, part.arg) for part in node.keywords]
        return min(filter(None, lasts), key=number_of)

    def _may_fail(self, node: ast.AST) -> bool:
        """Does an import stand where its failing is provided for, or where it may not be run?"""
        while node is not self._names.tree:
            node = self._names.parents[node]
            if isinstance(node, (ast.Try, ast.If)):
                return True
        return False

    # The kinds of call.

    def _training_call(self, node: ast.Call, path: str, unseeded, facts: dict) -> list[Call]:
        """A call of TrainingArguments or its like; none where it belongs to another package."""
        library = self._names.library(path)
        name = path.rpartition(".")[2]
        own_names = None
        if library == "unsloth" and name == "UnslothTrainingArguments":
            # transformers' own, with one argument more.
            library = "transformers"
            own_names = frozenset({"embedding_learning_rate"})
        if library and library not in LIBRARIES:
            self._notes.add(
                (node.lineno, f"{name} comes from {library}, whose arguments are not known here")
            )
            return []
        if not library:
            self._notes.add(
                (
                    node.lineno,
                    f"{name}: the text does not tell where it comes from; only what stands in the "
                    "call is checked",
                )
            )
        given, unread = self._arguments(node, name)
        own = self._subclasses.defaults(name)
        if self._subclasses.makes_its_own_init(name):
            library = ""
        facts = self._with_unread_fields(facts, own, node)
        facts = self._with_late_names(facts, node, library)
        changed = self._later.names_set(node)
        # What the call does not give is an attribute, which nothing refuses.
        unread += [name for name in changed if name[0] == "*" or name in own | given]
        own_fields = frozenset(own) if name in self._names.training_classes else own_names
        written = self._written(name, library, unread, facts, unseeded, own_fields)
        written = dataclasses.replace(
            written,
            set_elsewhere=tuple(name for name in changed if name not in unread),
            optional=frozenset(part.arg for part in node.keywords if self._is_optional(part)),
        )
        return [self._call(node, own | given, written, facts)]

    def _is_optional(self, part: ast.keyword) -> bool:
        return part.arg is not None and self._expressions.may_be_set(part.value)

    def _trainer_call(self, node: ast.Call, path: str) -> list[Call]:
        """A trainer's call where it has an argument that the newest version does not take."""
        library = self._names.library(path)
        name = path.rpartition(".")[2]
        if library not in ("transformers", "trl") or path.startswith("<file>"):
            return []
        if self._unsloth.is_there(node):
            return []
        version = version_in_force(library, self._pins)
        given, unread = self._arguments(node, name)
        names = [argument for argument in (*given, *unread) if not argument.startswith("*")]
        if all(takes(library, name, argument, version) in (True, None) for argument in names):
            return []
        written = self._written(name, library, unread, {})
        optional = frozenset(part.arg for part in node.keywords if self._is_optional(part))
        written = dataclasses.replace(written, optional=optional)
        return [self._call(node, given, written, {})]

    def _parsed_classes(self, node: ast.Call, name: str, facts: dict) -> list[Call]:
        """The file's own subclasses that a parser fills: their defaults are known, if no more."""
        self._notes.add((node.lineno, f"{name} {PARSER_NOTE}"))
        classes = node.args[0] if node.args else None
        parts = classes.elts if isinstance(classes, (ast.Tuple, ast.List)) else [classes]
        found = []
        for part in parts:
            path = self._names.path(part) if part is not None else ""
            class_name = path.rpartition(".")[2]
            if not path or not self._names.is_training(path):
                continue
            library = self._names.library(path)
            if library and library not in LIBRARIES:
                continue
            own = self._subclasses.defaults(class_name)
            with_fields = self._with_unread_fields(facts, own, node)
            written = self._written(
                class_name, library, ["**command line"], with_fields, own_fields=frozenset(own)
            )
            found.append(self._call(node, own, written, with_fields, is_parser=True))
        return found

    def _bare_call(self, facts: dict, line: int) -> Call:
        """What the file itself says, where it has no call that sets training arguments."""
        only = {"gone_imports": facts["gone_imports"]}
        written = self._written("the file", "", ["**anything"], only)
        node = ast.copy_location(ast.Call(ast.Name("file", ast.Load()), [], []), ast.Pass())
        node.lineno = line
        return self._call(node, {}, written, only)

    def _with_unread_fields(self, facts: dict, own: dict, node: ast.Call) -> dict:
        """The facts, with the fields of a subclass that the library read once, and nobody reads."""
        version = version_in_force("transformers", self._unsloth.pins_at(node, self._pins))
        gone = []
        for name in own:
            was_read = name in SUCCESSORS
            if not was_read or takes("transformers", "TrainingArguments", name, version):
                continue
            # The file may do with it what it likes.
            if f".{name}" not in self._names.words:
                gone.append(name)
        if not gone:
            return facts
        return facts | {"unread_fields": Seen(tuple(gone), own[gone[0]][1])}

    def _with_late_names(self, facts: dict, node: ast.Call, library: str) -> dict:
        """The facts, with `args.warmup_ratio = …` after the call: an attribute of its own."""
        late = self._later.unread(node, self._unsloth.pins_at(node, self._pins)) if library else {}
        if not late:
            return facts
        self._late |= late
        found = list(facts["unread_fields"].value) if "unread_fields" in facts else []
        found += [name for name in late if name not in found]
        return facts | {"unread_fields": Seen(tuple(found), min(late.values()))}

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

    def _written(
        self,
        name: str,
        library: str,
        unread: list[str],
        facts: dict,
        unseeded: str | None = None,
        own_fields: frozenset[str] | None = None,
    ) -> Written:
        around = {fact: seen.value for fact, seen in facts.items()}
        return Written(
            name=name,
            origin=library,
            unread=tuple(unread),
            unseeded=unseeded,
            pinned_by=self._pinned_by,
            fields=(own_fields or frozenset()) | self._probed,
            has_own_fields=own_fields is not None,
            around=Surroundings(**around),
        )

    def _call(
        self, node: ast.Call, given: dict, written: Written, facts: dict, is_parser: bool = False
    ) -> Call:
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
        places = {name: self._source.place(seen.line) for name, seen in facts.items()}
        if "gone_imports" in facts:
            places |= {name: self._source.place(at) for name, at in self._gone.items()}
        places |= {name: self._source.place(at) for name, at in self._late.items()}
        unread = tuple(dict.fromkeys((*untold, *written.unread)))
        for changed in unread:
            arguments.pop(changed, None)
        return Call(
            file=self._source.file,
            cell=cell,
            line=line,
            arguments=arguments,
            lines=lines,
            written=dataclasses.replace(
                written,
                unread=unread,
                unsloth=self._unsloth.is_there(node),
                pins=self._unsloth.pins_at(node, self._pins),
            ),
            places=places,
            is_parser=is_parser,
        )


def read_calls(
    path: str | Path, text: str | None = None, is_notebook: bool | None = None
) -> tuple[list[Call], list[str]]:
    """(calls, notes): the places that set training arguments in a .py or .ipynb file, and remarks.

    Both come in reading order, a remark in one line each. The file is never run or imported.
    Counted are calls of names that end in TrainingArguments, of TRL's configs, of subclasses
    defined in the file, trainers with an argument that they no longer take, parsers of such
    classes, and lines that launch a training. A default of argparse counts as the argument's value,
    with a note. A cell with a syntax error is passed over with a note. Raises BadInput for what is
    not a readable Python script or notebook. `text`: the file's, where it was read already;
    `is_notebook`: what it is, where the path does not say.
    """
    source = read_source(path, text, is_notebook)
    with nesting_is_bad_input(source.file):
        finder = _CallFinder(source)
        calls = finder.find()
    return calls + launch_calls(source), source.notes + finder.notes()
