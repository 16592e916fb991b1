"""Where an older version of a library may run a file than the newest, by which it was judged.

Old scripts are run with the libraries of their day. What their repository says of those stands in
many a place that no installer reads: a badge, a sentence, a list of constraints, a file for Docker.
"""

import dataclasses
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from hpkit.check.calls import Call
from hpkit.check.projects import fitting_files, folders_of_repository, stamp
from hpkit.preflight.libraries import allows, number_of, oldest_in_force, version_in_force
from hpkit.preflight.register import Finding
from hpkit.preflight.written import ITSELF, NOWHERE

#: So many files of a folder are looked through, and so many characters of each: it may hold data.
MANY_FILES = 100
MANY_CHARACTERS = 1_000_000
#: Where versions are named; what another script says is about itself.
_PLACES = tuple(
    "*.md *.rst *.txt *.y*ml *.toml *.cfg *.lock *.sh *.json *.in *ocker* *ile "
    "install*/*.sh docker*/* requirements*/* env*/*.y*ml scripts/*.sh".split()
)
#: A package and what stands behind it: `transformers==4.44.2`, `"trl": "^0.9"`, `Transformers
#: v4.31`, `transformers.git@v4.40.0`, `transformers (version 4.38)`; in a lock file, the next line.
_NAMED = re.compile(
    r"""(?ix) (?<![\w-]) (transformers|trl|torch) (?:_version|\.git)?
    (?: "\s*\n\s*version\ = )? (?:\[\w+\])?    # name = "trl", then version =; [torch]
    [\s"'`:|(@\])=-]{0,6} (?:version[\s:`]{1,3})?
    ( (?: [\s,"']* [<>=~!^]{1,3} \s* ["'v]? \d[\d.]* )+    # >=4.40, <4.50
    | ["'v]{0,2} \d+\.\d[\d.]* )    # 4.40
    """
)
_ONE_SPECIFIER = re.compile(r"([<>=~!^]*)\s*[\"'v]*(\d+(?:\.\d+)*)")
#: A fork or a commit of transformers, of which nobody here knows what it takes.
_UNKNOWN = (
    re.compile(r"(?i)github\.com/(?!huggingface/)[\w-]+/transformers\b(?![\w/-])"),
    re.compile(r"\badapter-transformers\b"),
    re.compile(r"huggingface/transformers(?:\.git)?@[0-9a-f]{7,40}\b"),
    # A clone, and within four lines the commit that is checked out.
    re.compile(
        r"huggingface/transformers(?:\.git)?\s(?:[^\n]*\n){0,4}?[^\n]*git checkout [0-9a-f]{7,40}\b"
    ),
)
#: The version of those: older than any.
_OLDEST = "0"
#: A Python by which old versions alone can be installed; not `3.8+`, `>= 3.8` or `3.8 or newer`.
_PYTHON = re.compile(
    r"(?i)(?<![\w/-])python(?:_version|-version)?[\s\"'`:(-]*(\W{0,2}?)\s*[\"'v]?(3\.[6-9])"
    r"(?![\d.]*\+|[\d.]*\s+(?:or|and)\s+(?:higher|newer|later|above|up|3))"
)
#: The newest versions for an old Python, and for torch 1 (the wheels' metadata, read 2026-11-27).
_NEWEST_FOR_PYTHON = {
    "3.6": {"transformers": "4.18.0", "trl": "0.1.0"},
    "3.7": {"transformers": "4.30.2", "trl": "0.11.4"},
    "3.8": {"transformers": "4.46.3", "trl": "0.11.4"},
    "3.9": {"transformers": "4.57.6", "trl": "0.24.0"},
}
_NEWEST_FOR_TORCH_1 = {"transformers": "4.47.1", "trl": "0.17.0"}


class Named(NamedTuple):
    """A version that a file of the repository names, or that its Python lets in."""

    version: str
    words: str


def doubted(finding: Finding, call: Call) -> Finding | None:
    """The finding, with a condition where an older version may run the file; None for a hint.

    `finding.last` is the last version that takes what the newest refuses. Where the repository
    names no version, or anywhere one so old, the finding is a warning that says so.
    """
    if finding.last is None:
        return finding
    package, last = finding.last
    pins = call.written.pins
    # What the file, or its project, asks for may let in none so old.
    if package in pins and oldest_in_force(package, pins).number > number_of(last):
        return finding
    # Two files of a project may contradict each other; one's own word does not.
    forbidding = pins if call.written.pinned_by == ITSELF else {}
    named = _oldest_named(Path(call.file).absolute(), package, forbidding)
    if named is not None and number_of(named.version)[:2] <= number_of(last)[:2]:
        return _unless(finding, named.words)
    if call.written.pinned_by == NOWHERE and package not in pins:
        return _unless(finding, "no version was found here")
    return finding


def _unless(finding: Finding, why: str) -> Finding | None:
    if finding.severity == "hint":
        return None
    message = f"{finding.message}, unless an older one runs it: {why}"
    fix = f"where the newest runs it, {finding.fix}"
    return dataclasses.replace(finding, severity="warning", message=message, fix=fix)


def _oldest_named(file: Path, package: str, pins: Mapping[str, str]) -> Named | None:
    """The oldest version that the file names, or one beside it or above it in its repository.

    None that the pins forbid.
    """
    folders = folders_of_repository(file.parent)
    if not (folders[-1] / ".git").exists():
        return None
    found = [_oldest_in(file, stamp(file)).get(package)]
    for folder in folders:
        for other in fitting_files(folder, _PLACES, stamp(folder))[:MANY_FILES]:
            found.append(_oldest_in(other, stamp(other)).get(package))
    may_run = [named for named in filter(None, found) if allows(package, pins, named.version)]
    return min(may_run, key=lambda named: number_of(named.version), default=None)


@cache
def _oldest_in(file: Path, _changed: float) -> dict[str, Named]:
    """package -> the oldest version that a file names."""
    try:
        with file.open(encoding="utf-8", errors="replace") as opened:
            text = opened.read(MANY_CHARACTERS)
    except OSError:
        return {}
    found = {}
    for package, version, words in _named_in(text):
        before = found.get(package)
        if before is None or number_of(version) < number_of(before.version):
            found[package] = Named(version, f"{file.name} names {words}")
    return found


def _named_in(text: str) -> list[tuple[str, str, str]]:
    """(package, version, words for it) of a text; not what lets in the newest, as `>=4.40`."""
    found = []
    for name, behind in _NAMED.findall(text):
        package = name.lower()
        specifier = _specifier(behind)
        words = specifier.removeprefix("==")
        if package == "torch":
            if re.search(r"(==|<=?|~=)1\.|<2$", specifier):
                found += _all_of(_NEWEST_FOR_TORCH_1, f"torch {words}")
            continue
        version = version_in_force(package, {package: specifier})
        if version.pinned:
            found.append((package, version.text, words))
    for pattern in _UNKNOWN:
        for match in pattern.finditer(text):
            which = match[0].split()[0]
            found.append(("transformers", _OLDEST, f"{which}, a fork or a commit"))
    for operator, python in _PYTHON.findall(text):
        if ">" not in operator:
            found += _all_of(_NEWEST_FOR_PYTHON[python], f"Python {python}")
    return found


def _specifier(behind: str) -> str:
    """What stands behind a package's name as pip would write it: `==4.44` of `v4.44` or `=4.44`."""
    allowed = []
    for operator, number in _ONE_SPECIFIER.findall(behind):
        allowed.append({"": "==", "=": "==", "^": ">="}.get(operator, operator) + number)
        if operator == "^":
            allowed.append(f"<{int(number.partition('.')[0]) + 1}")
    return ",".join(allowed)


def _all_of(newest: dict[str, str], words: str) -> list[tuple[str, str, str]]:
    return [(package, version, words) for package, version in newest.items()]
