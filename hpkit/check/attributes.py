"""Where a repository's own code reads an argument by the name that the library has dropped."""

import dataclasses
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from hpkit.check.calls import Call
from hpkit.check.projects import folders_of_repository, scripts_of, stamp
from hpkit.preflight.arguments import SUCCESSORS
from hpkit.preflight.register import Finding

#: `training_args.evaluation_strategy`, `self.args.no_cuda`
_READ = re.compile(r"\b\w*(?:args|arguments|config)\.(\w+)\b(?!\s*=[^=])")


def with_reader(finding: Finding, call: Call) -> Finding:
    """The finding, whose fix names the script that would miss the old name."""
    is_about_a_name = finding.rule in ("removed-argument", "unread-field")
    if not is_about_a_name or finding.argument not in SUCCESSORS:
        return finding
    root = folders_of_repository(Path(call.file).absolute().parent)[-1]
    if not (root / ".git").exists():
        return finding
    reader = _readers(root, stamp(root)).get(finding.argument)
    if reader is None:
        return finding
    fix = f"{finding.fix}; where {reader}, runs it, mend that too: it reads {finding.argument}"
    return dataclasses.replace(finding, fix=fix)


@cache
def _readers(root: Path, _changed: float) -> Mapping[str, str]:
    """Old name -> the first script of the repository, and its line, that reads it."""
    found = {}
    for script, text in scripts_of(root):
        for match in _READ.finditer(text):
            name = match[1]
            # An option or a field of the script's own keeps its name.
            if name in SUCCESSORS and not re.search(rf"--{name}\b|\b{name}\s*:", text):
                line = text.count("\n", 0, match.start()) + 1
                found.setdefault(name, f"{script.as_posix()}, line {line}")
    return found
