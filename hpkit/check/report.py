"""`hpkit check`: the findings about a recipe, a script or a notebook, each with its place, as text or JSON."""

import dataclasses
import json
import textwrap
from typing import NamedTuple

from hpkit.accounting import account
from hpkit.check.scripts import read_calls
from hpkit.preflight.findings import preflight
from hpkit.preflight.plan import Written
from hpkit.recipe import Recipe


class Report(NamedTuple):
    """What was read and what was found, as JSON has it.

    `calls`: dicts of file, cell, line, name, arguments, unread. `findings`: dicts of rule, severity, message, evidence,
    fix, file, cell, line. `lines` tell in words what was looked at; `notes` what was passed over.
    """

    calls: list[dict]
    findings: list[dict]
    lines: list[str]
    notes: list[str]


def check_recipe(name: str, recipe: Recipe, examples: int | None, **known) -> Report:
    """The report on a recipe; `known` goes to `preflight`. Raises BadInput."""
    place = {"file": name, "cell": None, "line": None}
    lines = [f"recipe {name}{f', {examples:,} examples' if examples else ''}"]
    if examples:
        lines += [
            f"  {line}" for line in account(recipe, examples, processes=known["processes"]).lines()
        ]
    lines += _missing(examples or recipe.max_steps > 0, known)
    findings = [_placed(finding, place) for finding in preflight(recipe, examples, **known)]
    return Report(
        [place | {"name": "Recipe", "arguments": dataclasses.asdict(recipe), "unread": []}],
        findings,
        lines,
        [],
    )


def check_file(file: str, examples: int | None, **known) -> Report:
    """The report on a script or notebook, which is read and never run; `known` goes to `preflight`. Raises BadInput."""
    read, notes = read_calls(file)
    notes = [f"{file}, {note}" for note in notes]
    calls, findings, lines = [], [], []
    for call in read:
        place = {"file": call.file, "cell": call.cell, "line": call.line}
        trainer = call.name.endswith(
            "Trainer"
        )  # looked at for its own arguments; what it trains by is another call
        told = Written(call.name, call.unread, call.unseeded)
        for finding in preflight(
            call.arguments, None if trainer else examples, written=told, **known
        ):
            findings.append(
                _placed(finding, place | {"line": call.lines.get(finding.argument, call.line)})
            )
        lines.append(f"{_where(place)}: {call.name}, {len(call.arguments)} arguments read")
        lines += [f"  not told by the text: {', '.join(call.unread)}"] if call.unread else []
        if not trainer:
            calls.append(
                place
                | {"name": call.name, "arguments": call.arguments, "unread": list(call.unread)}
            )
    if calls:
        lines += _missing(examples, known)
    else:
        notes.append(f"{file}: no call of TrainingArguments or its like was found")
    return Report(calls, findings, lines, notes)


def measure(corpus: str, model: str, recipe: Recipe | None) -> tuple[list[int], int]:
    """(tokens of each training document, how many examples they make: packed by a recipe, else one each). Raises BadInput."""
    from hpkit.corpus.answers import encode_answers
    from hpkit.corpus.blocks import blocks_of, encode
    from hpkit.corpus.load import load_corpus
    from hpkit.model import load_tokenizer

    tokenizer, source = load_tokenizer(model), load_corpus(corpus)
    if source.kind in ("tunes", "text"):
        lengths = [len(document) for document in encode(source, tokenizer)[0]]
    else:
        lengths = [
            len(example["input_ids"])
            for example in encode_answers(source.kind, source.split()[0], tokenizer)
        ]
    if recipe is None:
        return lengths, len(lengths)
    return lengths, len(
        blocks_of(source, tokenizer, recipe.max_seq_length or tokenizer.model_max_length)[0]
    )


def as_json(report: Report) -> str:
    """Calls and findings. JSON knows no NaN and no infinity, and a script may hold both: they are written as text."""
    text = json.dumps({"calls": report.calls, "findings": report.findings}, default=repr)
    return json.dumps(json.loads(text, parse_constant=str), indent=1)


def as_text(report: Report, width: int) -> str:
    """The report for a person, in lines of `width` characters."""
    lines = report.notes + report.lines
    for finding in report.findings:
        lines += [
            "",
            f"{finding['severity']:8}{finding['rule']}{f'  {_where(finding)}' if finding['line'] else ''}",
        ]
        lines.append(
            textwrap.fill(
                finding["message"], width, initial_indent=" " * 8, subsequent_indent=" " * 8
            )
        )
        lines.append(
            textwrap.fill(
                "-> " + finding["fix"], width, initial_indent=" " * 8, subsequent_indent=" " * 11
            )
        )
    counts = [
        (sum(finding["severity"] == severity for finding in report.findings), severity)
        for severity in ("error", "warning", "hint")
    ]
    return "\n".join(
        [
            *lines,
            "",
            ", ".join(f"{count} {name}{'s' * (count > 1)}" for count, name in counts if count)
            or "nothing found",
        ]
    )


def _placed(finding, place: dict) -> dict:
    return {
        name: value for name, value in dataclasses.asdict(finding).items() if name != "argument"
    } | place


def _where(place: dict) -> str:
    cell = f"cell {place['cell']}, " if place["cell"] else ""
    return f"{place['file']}, {cell}line {place['line']}"


def _missing(counted, known: dict) -> list[str]:
    lines = (
        []
        if counted
        else ["  no --examples: updates, warmup, logs and checkpoints are not counted"]
    )
    return (
        lines
        if known["device"]
        else [*lines, "  no --device: nothing is said about precision and memory of a device"]
    )
