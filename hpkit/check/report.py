"""The findings about a recipe, a script or a notebook, each with its place, as text or JSON."""

import dataclasses
import json
import textwrap
from typing import NamedTuple

from hpkit.accounting import account
from hpkit.check.scripts import Call, read_calls
from hpkit.formatting import plural
from hpkit.preflight.findings import SEVERITIES, preflight
from hpkit.preflight.plan import Written
from hpkit.recipe import Recipe


class Report(NamedTuple):
    """What was read and what was found, as JSON has it.

    `calls`: dicts of file, cell, line, name, arguments, unread. `findings`: dicts of rule,
    severity, message, evidence, fix, file, cell, line. `lines` tell in words what was looked at;
    `notes` what was passed over.
    """

    calls: list[dict]
    findings: list[dict]
    lines: list[str]
    notes: list[str]


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


def check_file(file: str, examples: int | None, **known) -> Report:
    """The report on a script or notebook, which is read and never run.

    `known` goes to `preflight`. Raises BadInput.
    """
    read, notes = read_calls(file)
    notes = [f"{file}, {note}" for note in notes]
    # Each call is judged by itself: the text does not tell which of several is trained with.
    calls = []
    findings = []
    lines = []
    for call in read:
        place = {"file": call.file, "cell": call.cell, "line": call.line}
        # A trainer is looked at for its own arguments; what it trains by is another call.
        is_trainer = call.name.endswith("Trainer")
        findings += _findings(call, place, None if is_trainer else examples, known)
        lines.append(f"{_where(place)}: {call.name}, {len(call.arguments)} arguments read")
        if call.unread:
            lines.append(f"  not told by the text: {', '.join(call.unread)}")
        if not is_trainer:
            told = {"name": call.name, "arguments": call.arguments, "unread": list(call.unread)}
            calls.append(place | told)
    if calls:
        lines += _what_is_missing(examples, known)
    else:
        notes.append(f"{file}: no call of TrainingArguments or its like was found")
    return Report(calls, findings, lines, notes)


def _findings(call: Call, place: dict, examples: int | None, known: dict) -> list[dict]:
    """The findings about one call, each at the line of its argument."""
    written = Written(call.name, call.unread, call.unseeded)
    found = preflight(call.arguments, examples, written=written, **known)
    placed = []
    for finding in found:
        line = call.lines.get(finding.argument, call.line)
        placed.append(_placed(finding, place | {"line": line}))
    return placed


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


def as_json(report: Report) -> str:
    """Calls and findings.

    JSON knows no NaN and no infinity, and a script may hold both: they are written as text.
    """
    text = json.dumps({"calls": report.calls, "findings": report.findings}, default=repr)
    return json.dumps(json.loads(text, parse_constant=str), indent=1)


def as_text(report: Report, width: int) -> str:
    """The report for a person, in lines of `width` characters."""
    # What was passed over comes first: it may explain why something is not among the findings.
    lines = report.notes + report.lines
    for finding in report.findings:
        lines += ["", *_finding_lines(finding, width)]
    counts = []
    for severity in SEVERITIES:
        count = sum(finding["severity"] == severity for finding in report.findings)
        if count:
            counts.append(plural(count, severity))
    return "\n".join([*lines, "", ", ".join(counts) or "nothing found"])


def _finding_lines(finding: dict, width: int) -> list[str]:
    """Severity, rule and place; the message; the fix. A recipe has no place."""
    head = f"{finding['severity']:8}{finding['rule']}"
    if finding["line"]:
        head += f"  {_where(finding)}"
    indent = " " * 8
    hanging = indent + " " * len("-> ")
    message = textwrap.fill(
        finding["message"], width, initial_indent=indent, subsequent_indent=indent
    )
    fix = textwrap.fill(
        "-> " + finding["fix"], width, initial_indent=indent, subsequent_indent=hanging
    )
    return [head, message, fix]


def _placed(finding, place: dict) -> dict:
    """A finding with its place, which stands for the argument that it is about."""
    fields = dataclasses.asdict(finding)
    del fields["argument"]
    return fields | place


def _where(place: dict) -> str:
    cell = f"cell {place['cell']}, " if place["cell"] else ""
    return f"{place['file']}, {cell}line {place['line']}"


def _what_is_missing(counted, known: dict) -> list[str]:
    """What the report leaves out because nobody gave the number of examples, or a device."""
    lines = []
    if not counted:
        lines.append("  no --examples: updates, warmup, logs and checkpoints are not counted")
    if not known["device"]:
        lines.append("  no --device: nothing is said about precision and memory of a device")
    return lines
