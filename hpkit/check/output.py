"""A report in words, in a line for each finding, and for other programs."""

import json
import os
import textwrap
from collections.abc import Iterable
from urllib.parse import quote

from hpkit.check.report import MISSING, Report, where
from hpkit.formatting import plural
from hpkit.preflight.findings import SEVERITIES
from hpkit.preflight.rules import ALL_RULES

#: GitHub's and SARIF's words for a finding's severity.
_GITHUB = {"error": "error", "warning": "warning", "hint": "notice"}
_SARIF = {"error": "error", "warning": "warning", "hint": "note"}


def as_json(reports: Report | Iterable[Report]) -> str:
    """Calls and findings.

    JSON knows no NaN and no infinity, and a script may hold both: they are written as text.
    """
    joined = _joined(reports)
    text = json.dumps({"calls": joined.calls, "findings": joined.findings}, default=repr)
    return json.dumps(json.loads(text, parse_constant=str), indent=1)


def as_text(reports: Report | Iterable[Report], width: int) -> str:
    """The report for a person, in lines of `width` characters."""
    joined = _joined(reports)
    # What was passed over comes first: it may explain why something is not among the findings.
    lines = joined.notes + joined.lines
    for finding in joined.findings:
        lines += ["", *_finding_lines(finding, width)]
    return "\n".join([*lines, "", _last_line(joined)])


def as_lines(reports: Iterable[Report]) -> str:
    """One line for each finding: place, severity, rule, message, fix."""
    joined = _joined(reports)
    lines = []
    for finding in joined.findings:
        lines.append(
            f"{_compact_place(finding)}: {finding['severity']} {finding['rule']}: "
            f"{finding['message']}; {finding['fix']}"
        )
    return "\n".join([*lines, _last_line(joined)])


def as_github(reports: Iterable[Report]) -> str:
    """Commands of GitHub's workflows, which it shows beside the lines of a pull request."""
    joined = _joined(reports)
    lines = []
    for finding in joined.findings:
        text = f"{_in_cell(finding)}{finding['message']}. To mend it: {finding['fix']}"
        properties = {
            "file": _relative(finding["file"]),
            "line": _line_of_file(finding),
            "title": f"hpkit {finding['rule']}",
        }
        shown = ",".join(f"{name}={_escaped(value, ':,')}" for name, value in properties.items())
        lines.append(f"::{_GITHUB[finding['severity']]} {shown}::{_escaped(text)}")
    return "\n".join([*lines, _last_line(joined)])


def as_sarif(reports: Iterable[Report]) -> str:
    """The findings as SARIF 2.1.0, which GitHub's code scanning and other tools read."""
    joined = _joined(reports)
    rules = []
    for rule in ALL_RULES:
        rules.append(
            {
                "id": rule.name,
                "shortDescription": {"text": rule.summary},
                "fullDescription": {"text": rule.paragraph},
                "help": {"text": f"hpkit explain {rule.name}; notebook {rule.notebook}"},
            }
        )
    names = [rule.name for rule in ALL_RULES]
    results = []
    for finding in joined.findings:
        text = f"{_in_cell(finding)}{finding['message']}. To mend it: {finding['fix']}"
        location = {
            "artifactLocation": {"uri": quote(_relative(finding["file"]).replace(os.sep, "/"))},
            "region": {"startLine": _line_of_file(finding)},
        }
        results.append(
            {
                "ruleId": finding["rule"],
                "ruleIndex": names.index(finding["rule"]),
                "level": _SARIF[finding["severity"]],
                "message": {"text": text},
                "locations": [{"physicalLocation": location}],
            }
        )
    driver = {"name": "hpkit", "rules": rules}
    log = {
        "version": "2.1.0",
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "runs": [{"tool": {"driver": driver}, "results": results}],
    }
    return json.dumps(log, indent=1)


def _joined(reports: Report | Iterable[Report]) -> Report:
    """One report of several; what is missing in each is said once."""
    if isinstance(reports, Report):
        return reports
    calls = []
    findings = []
    lines = []
    notes = []
    checked = False
    for report in reports:
        calls += report.calls
        findings += report.findings
        notes += report.notes
        checked = checked or report.checked
        lines += [line for line in report.lines if line not in MISSING or line not in lines]
    # At the end, where it is not taken for one file's.
    last = [line for line in lines if line in MISSING]
    lines = [line for line in lines if line not in MISSING]
    return Report(calls, findings, lines + last, notes, checked)


def _last_line(report: Report) -> str:
    """How many findings there are, and whether anything was checked at all."""
    counts = []
    for severity in SEVERITIES:
        count = sum(finding["severity"] == severity for finding in report.findings)
        if count:
            counts.append(plural(count, severity))
    if counts:
        return ", ".join(counts)
    if not report.checked:
        return "nothing was checked"
    return "nothing found"


def _finding_lines(finding: dict, width: int) -> list[str]:
    """Severity, rule and place; the message; the fix. A recipe has no place."""
    head = f"{finding['severity']:8}{finding['rule']}"
    if finding["line"]:
        head += f"  {where(finding)}"
    indent = " " * 8
    hanging = indent + " " * len("-> ")
    message = textwrap.fill(
        finding["message"], width, initial_indent=indent, subsequent_indent=indent
    )
    fix = textwrap.fill(
        "-> " + finding["fix"], width, initial_indent=indent, subsequent_indent=hanging
    )
    return [head, message, fix]


def _compact_place(finding: dict) -> str:
    place = finding["file"]
    if finding["cell"]:
        place += f":cell {finding['cell']}"
    if finding["line"]:
        place += f":{finding['line']}"
    return place


def _in_cell(finding: dict) -> str:
    """A notebook's line is not the line of its file, so that the text says it."""
    if finding["cell"]:
        return f"cell {finding['cell']}, line {finding['line']}: "
    return ""


def _line_of_file(finding: dict) -> int:
    return 1 if finding["cell"] or not finding["line"] else finding["line"]


def _relative(file: str) -> str:
    """A path from the current folder, where it lies in it: other programs know no other."""
    inside = os.path.relpath(file)
    return file if inside.startswith("..") else inside


def _escaped(value, more: str = "") -> str:
    """A value as GitHub's workflow commands take it."""
    text = str(value)
    for sign in "%\r\n" + more:
        text = text.replace(sign, f"%{ord(sign):02X}")
    return text
