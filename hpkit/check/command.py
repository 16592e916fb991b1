"""The command `hpkit check`: paths or a recipe in, findings and an exit status out."""

import argparse
import os
import shutil
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from hpkit.capability import find_machine
from hpkit.check import output
from hpkit.check.files import STDIN, files_in, read_file
from hpkit.check.report import Report, check_file, check_recipe, chosen, measure, report_on
from hpkit.check.settings import settings_of
from hpkit.errors import BadInput
from hpkit.recipe import changed_hyperparameters, load_recipe, with_changes

#: From so many files on they are shared among processes, which take a moment to start.
MANY_FILES = 100
#: The status where something could not be read, or where nothing was checked at all.
BAD_INPUT = 2


def run(options: argparse.Namespace) -> int:
    """Prints the findings; 1 where one of them is an error, or a warning under --strict."""
    _require_one_kind_of_input(options)
    settings = settings_of(options.select, options.ignore, options.strict)
    known = _known(options)
    examples = options.examples
    if options.corpus:
        recipe = _recipe(options)[0] if options.recipe else None
        model = options.model or "starter"
        known["lengths"], counted = measure(options.corpus, model, recipe, options.text_column)
        examples = examples or counted
    if options.recipe:
        recipe, base = _recipe(options)
        reports = [check_recipe(options.recipe, recipe, examples, base=base, **known)]
        alone = True
    else:
        reports = _reports(options, examples, known)
        alone = _is_named_alone(options.paths)
    reports = [chosen(report, settings.select, settings.ignore) for report in reports]
    if options.json or options.output_format != "full":
        # Standard output belongs to the other program, and to findings alone.
        for report in reports:
            for note in report.notes:
                print(note, file=sys.stderr)
    print(_shown(reports, options))
    if alone and not any(report.checked for report in reports):
        return BAD_INPUT
    bad = ("error", "warning") if settings.strict else ("error",)
    found = [finding for report in reports for finding in report.findings]
    return int(any(finding["severity"] in bad for finding in found))


def _require_one_kind_of_input(options: argparse.Namespace) -> None:
    if bool(options.paths) == bool(options.recipe):
        raise BadInput(
            "check: give a script, notebook, recipe or folder, or --recipe, and not both; "
            "`hpkit check --help` shows examples"
        )
    changes = changed_hyperparameters(options)
    if options.paths and changes:
        raise BadInput(
            f"--{next(iter(changes))} belongs to --recipe: a file is checked as it is written"
        )
    if options.text_column and not options.corpus:
        raise BadInput("--text_column: expected --corpus, whose columns it names")
    started = options.started_with
    if started and (len(options.paths or ()) != 1 or Path(options.paths[0]).suffix != ".py"):
        raise BadInput("--with: expected one script (.py) beside it, which reads its values there")


def _recipe(options: argparse.Namespace) -> tuple:
    """(the recipe with its flags, the recipe as it was, None where no flag changed it)."""
    base = load_recipe(options.recipe)
    changes = changed_hyperparameters(options)
    return with_changes(base, changes), base if changes else None


def _known(options: argparse.Namespace) -> dict:
    machine = find_machine(options.device) if options.device else None
    return dict(model=options.model, device=machine, processes=options.processes, lengths=None)


def _is_named_alone(paths: list[str]) -> bool:
    """Whether a person named this one file. pre-commit names those that happened to change."""
    is_hook = os.environ.get("PRE_COMMIT") == "1"
    return len(paths) == 1 and not Path(paths[0]).is_dir() and not is_hook


# Files.


def _reports(options: argparse.Namespace, examples: int | None, known: dict) -> list[Report]:
    """A report on each file; what cannot be read, or sets nothing, is a note among several."""
    started = options.started_with
    if started:
        return [check_file(options.paths[0], examples, started, **known)]
    files = files_in(options.paths)
    if _is_named_alone(options.paths):
        return [report_on(read_file(files[0]), examples, **known)]
    look = partial(_report_among_several, examples=examples, known=known)
    if len(files) < MANY_FILES or STDIN in files:
        reports = list(map(look, files))
    else:
        reports = _shared(look, files)
    read = [report for report in reports if report.checked]
    counted = f"{len(files):,} files, {len(read):,} of them with settings of a training"
    return [*_without_empty(reports), Report([], [], [counted], [], checked=False)]


def _report_among_several(file: str, examples: int | None, known: dict) -> Report:
    try:
        return report_on(read_file(file), examples, **known)
    except BadInput as error:
        return Report([], [], [], [f"passed over: {error}"], checked=False)


def _shared(look, files: list[str]) -> list[Report]:
    """The reports of many files, made by as many processes as there are cores."""
    count = min(os.cpu_count() or 1, 8)
    # Forked, they have everything imported; where there is no fork each imports for itself.
    method = "fork" if hasattr(os, "fork") else "spawn"
    with ProcessPoolExecutor(count, mp_context=get_context(method)) as pool:
        return list(pool.map(look, files, chunksize=16))


def _without_empty(reports: Iterable[Report]) -> list[Report]:
    """The reports on files that set something, or could not be read."""
    kept = []
    for report in reports:
        unreadable = [note for note in report.notes if note.startswith("passed over: ")]
        if report.checked or unreadable:
            kept.append(report)
    return kept


# Words.


def _shown(reports: list[Report], options: argparse.Namespace) -> str:
    chosen_format = "json" if options.json else options.output_format
    if chosen_format == "json":
        return output.as_json(reports)
    if chosen_format == "sarif":
        return output.as_sarif(reports)
    if chosen_format == "github":
        return output.as_github(reports)
    if chosen_format == "concise":
        return output.as_lines(reports)
    return output.as_text(reports, width())


def width() -> int:
    """Columns to fill with text: the terminal's, at most 110, for longer lines are hard to read."""
    return min(shutil.get_terminal_size().columns, 110)
