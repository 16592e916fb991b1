"""The findings about a recipe or a file, each with its place."""

import dataclasses
import re
from collections.abc import Collection
from typing import NamedTuple

from hpkit.accounting import account
from hpkit.check.calls import Call
from hpkit.check.doubts import doubted
from hpkit.check.files import Contents, read_file
from hpkit.check.ignoring import Ignored, ignored_in
from hpkit.check.readers import readers_of
from hpkit.formatting import plural
from hpkit.preflight.agreement import SEVERITIES
from hpkit.preflight.findings import preflight
from hpkit.preflight.forms import LEAVE_OUT
from hpkit.preflight.register import REGISTERED_RULES, Finding
from hpkit.recipe import Recipe


class Report(NamedTuple):
    """What was read and what was found, as JSON has it.

    `calls`: dicts of file, cell, line, name, arguments, unread. `findings`: dicts of rule,
    severity, argument, message, evidence, fix, changes, file, cell, line. `lines` tell in words
    what was looked at; `notes` what was passed over. `checked`: there was anything to look at.
    """

    calls: list[dict]
    findings: list[dict]
    lines: list[str]
    notes: list[str]
    checked: bool = True


def check_recipe(name: str, recipe: Recipe, examples: int | None, **known) -> Report:
    """The report on a recipe; `known` goes to `preflight`. Raises BadInput."""
    place = {"file": name, "cell": None, "line": None}
    lines = [f"recipe {name}"]
    if examples:
        lines[0] += f", {examples:,} examples"
        counts = account(recipe, examples, processes=known["processes"])
        lines += [f"  {line}" for line in counts.lines()]
    counted = examples or recipe.max_steps > 0
    lines += _what_is_missing(counted, known)
    findings = [_placed(finding, place) for finding in preflight(recipe, examples, **known)]
    call = place | {"name": "Recipe", "arguments": dataclasses.asdict(recipe), "unread": []}
    return Report([call], findings, lines, notes=[])


def check_file(file: str, examples: int | None, recipe_file: str | None = None, **known) -> Report:
    """The report on a script, notebook, recipe or shell file, which is read and never run.

    `recipe_file`: settings or launch lines that a script is started with. `known` goes to
    `preflight`. Raises BadInput.
    """
    contents = read_file(file)
    if recipe_file is not None:
        # Here, because few need it.
        from hpkit.check.started import started_with

        contents = started_with(contents, read_file(recipe_file, is_recipe=True))
    return report_on(contents, examples, **known)


def report_on(contents: Contents, examples: int | None, **known) -> Report:
    """The report on what a file sets; `known` goes to `preflight`. Raises BadInput."""
    file = contents.file
    ignored = ignored_in(contents)
    commented = _lines_with_comments(contents)
    notes = [f"{file}, {note}" for note in [*contents.notes, *ignored.unknown]]
    # Each call is judged by itself: the text does not tell which of several is trained with.
    calls = []
    findings = []
    lines = []
    for call in contents.calls:
        place = {"file": call.file, "cell": call.cell, "line": call.line}
        # A trainer is looked at for its own arguments; what it trains by is another call.
        is_trainer = call.written.is_trainer
        call = _with_explained(call, commented)
        findings += _findings(call, None if is_trainer else examples, known, ignored)
        lines += _lines_on(call, place)
        if not is_trainer:
            told = {"name": call.name, "arguments": call.arguments, "unread": list(call.unread)}
            calls.append(place | told)
    if calls:
        lines += _what_is_missing(_are_counted(contents.calls, examples), known)
    elif not contents.calls and not contents.notes:
        notes.append(f"{file}: no call of TrainingArguments or its like was found")
    return Report(calls, _each_once(findings), lines, notes, checked=bool(contents.calls))


def _lines_with_comments(contents: Contents) -> set[tuple[int | None, int]]:
    """(cell, line) of each line of the file on which code and a comment stand."""
    found = set()
    for cell, text in contents.texts:
        for number, line in enumerate(text.split("\n"), 1):
            if re.search(r"\S\s+#\s*\w", line):
                found.add((cell, number))
    return found


def _with_explained(call: Call, commented: set[tuple[int | None, int]]) -> Call:
    """The call, with the arguments on whose line a comment says why."""
    explained = {name for name, line in call.lines.items() if (call.cell, line) in commented}
    written = dataclasses.replace(call.written, explained=frozenset(explained))
    return dataclasses.replace(call, written=written)


def _lines_on(call: Call, place: dict) -> list[str]:
    """What was looked at, in words."""
    what = call.name
    if call.written.tool:
        what = f"settings of {call.written.tool}"
    lines = [f"{where(place)}: {what}, {plural(len(call.arguments), 'argument')} read"]
    if call.unread:
        lines.append(f"  not told by the text: {', '.join(call.unread)}")
    around = call.written.around
    if around.examples:
        cell, line = call.places["examples"]
        at = where({"file": call.file, "cell": cell, "line": line})
        lines.append(f"  {plural(around.examples, 'example')}, as {at} says")
    if call.arguments.get("packing") and not _has_steps(call):
        lines.append("  packing joins examples, nobody knows how many: updates are not counted")
    return lines


def _are_counted(calls: list[Call], examples: int | None) -> bool:
    """Whether the updates of each call are known."""
    for call in calls:
        if call.written.is_trainer or _has_steps(call):
            continue
        if not (examples or call.written.around.examples):
            return False
    return True


def _has_steps(call: Call) -> bool:
    steps = call.arguments.get("max_steps")
    return isinstance(steps, int) and steps > 0


def _findings(call: Call, examples: int | None, known: dict, ignored: Ignored) -> list[dict]:
    """The findings about one call, each at the line of its argument."""
    placed = []
    found = []
    for finding in preflight(call.arguments, examples, written=call.written, **known):
        finding = doubted(_with_reader(finding, call), call)
        if finding is not None:
            found.append(finding)
    # What is doubted is no error any more.
    for finding in sorted(found, key=lambda finding: SEVERITIES.index(finding.severity)):
        place = _place_of(finding.rule, finding.argument, call)
        if not ignored.covers(finding.rule, place["cell"], place["line"]):
            placed.append(_placed(finding, place))
    return placed


def _with_reader(finding: Finding, call: Call) -> Finding:
    """The finding; of an old name its fix says which script of the repository would miss it."""
    if finding.rule not in ("removed-argument", "unread-field"):
        return finding
    reader = readers_of(call.file).old_names.get(finding.argument)
    if reader is None:
        return finding
    fix = f"{finding.fix}; where {reader}, runs it, mend that too: it reads {finding.argument}"
    return dataclasses.replace(finding, fix=fix)


def _place_of(rule: str, argument: str | None, call: Call) -> dict:
    """Where an argument is written, under its old name or its new one, or what the code says."""
    cell = call.cell
    line = call.lines.get(argument)
    if line is None and argument in call.places:
        cell, line = call.places[argument]
    # An argument that is missing has no line: one that the rule looks at has.
    for need in REGISTERED_RULES[rule].needs:
        line = line or call.lines.get(need)
    return {"file": call.file, "cell": cell, "line": line or call.line}


def _each_once(findings: list[dict]) -> list[dict]:
    """The findings without those that several calls of a file have in common."""
    seen = set()
    kept = []
    for finding in findings:
        key = (finding["rule"], finding["cell"], finding["line"], finding["message"])
        if key not in seen:
            seen.add(key)
            kept.append(finding)
    return kept


def chosen(report: Report, select: Collection[str], ignore: Collection[str]) -> Report:
    """The report with the findings of some rules alone; of all where `select` is empty."""
    kept = []
    for finding in report.findings:
        is_selected = not select or finding["rule"] in select
        if is_selected and finding["rule"] not in ignore:
            kept.append(finding)
    return report._replace(findings=kept)


def measure(
    corpus: str, model: str, recipe: Recipe | None, text_column: str | None = None
) -> tuple[list[int], int]:
    """(tokens of each training document, how many examples they make).

    `corpus` and `text_column` as `load_corpus` takes them. The documents are packed by a recipe;
    without one, each is an example. Raises BadInput.
    """
    # Here, so that a check without a corpus loads no tokenizer.
    from hpkit.corpus.answers import encode_answers
    from hpkit.corpus.blocks import blocks_of
    from hpkit.corpus.encoding import encode
    from hpkit.corpus.load import load_corpus
    from hpkit.model import load_tokenizer

    source = load_corpus(corpus, text_column=text_column)
    tokenizer = load_tokenizer(model)
    if source.kind in ("tunes", "text"):
        documents = encode(source, tokenizer)[0]
    else:
        examples = encode_answers(source.kind, source.split()[0], tokenizer)
        documents = [example.input_ids for example in examples]
    lengths = [len(document) for document in documents]
    if recipe is None:
        return lengths, len(lengths)
    block_size = recipe.max_seq_length or tokenizer.model_max_length
    return lengths, len(blocks_of(source, tokenizer, block_size)[0])


def _placed(finding, place: dict) -> dict:
    """A finding with its place, which stands for the argument that it is about."""
    changes = {}
    leave_out = []
    for argument, value in finding.changes.items():
        if value is LEAVE_OUT:
            leave_out.append(argument)
        else:
            changes[argument] = value
    fields = {
        "rule": finding.rule,
        "severity": finding.severity,
        "argument": finding.argument,
        "message": finding.message,
        "evidence": finding.evidence,
        "fix": finding.fix,
        "changes": {"set": changes, "leave_out": leave_out},
    }
    return fields | place


def where(place: dict) -> str:
    """`train.py, line 3`, or `tune.ipynb, cell 3, line 2`."""
    cell = f"cell {place['cell']}, " if place["cell"] else ""
    return f"{place['file']}, {cell}line {place['line']}"


def _what_is_missing(counted, known: dict) -> list[str]:
    """What the report leaves out because nobody gave the number of examples, or a device."""
    lines = []
    if not counted:
        lines.append(MISSING[0])
    if not known["device"]:
        lines.append(MISSING[1])
    return lines


#: What a report leaves out where nobody says more.
MISSING = (
    "  no --examples: updates, warmup, logs and checkpoints are not counted",
    "  no --device: nothing is said about precision and memory of a device",
)
