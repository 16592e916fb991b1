"""The versions that a project asks for: its requirements, environment, setup and lock files."""

import codecs
import os
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from hpkit.check.requirements import QUOTED, by_package, listed_in, requirements_in
from hpkit.errors import BadInput
from hpkit.files import read_toml
from hpkit.preflight.libraries import version_in_force

#: Where a project says what it needs, the vaguest first: what a later one says counts.
_PLACES = (
    "FAQ*.md",
    "INSTALL*.md",
    "SETUP*.md",
    "README*.md",
    "Dockerfile*",
    "*env*.y*ml",
    "setup.py",
    "setup.cfg",
    "pyproject.toml",
    "Pipfile",
    "environment.y*ml",
    "conda*.y*ml",
    "*requirement*.in",
    "*requirement*.txt",
    "requirements*.txt",
    "requirements/*.txt",
    "poetry.lock",
    "uv.lock",
)
#: `- transformers=4.44.2=build`, `- conda-forge::trl>=0.9`, and pip's own `- trl==0.9.6`.
_CONDA = re.compile(r"\s*-\s*[\"']?(?:[\w./-]+::)?([\w.-]+)\s*([=<>!~][^\"'#]*)?")
_FIELD = re.compile(r"(?m)^\s+finetuning_type\s*:\s*\w")
_THE_TOOL = re.compile(r"(?i)llama[-_]?factory|llmtuner")
#: Where a copy of the library stands, which the project has changed.
_COPIES = ("transformers/__init__.py", "src/transformers/__init__.py")
#: So many folders of a repository are looked into for versions, and so many scripts read, and no
#: more.
MANY_FOLDERS = 300
MANY_SCRIPTS = 2000
#: What an environment of conda has, and a workflow or a compose file named after one has not.
_NEEDS = re.compile(r"(?m)^dependencies\s*:")
_LOCKED = re.compile(r'(?m)^name = "([\w.-]+)"\nversion = "([^"]+)"')


def pins_of_project(folder: Path) -> dict[str, str]:
    """package -> specifier, as the files of a folder and of those above it ask for it.

    The nearest folder counts, package by package. Beyond a repository's root nothing does, and
    outside a repository the folder alone.
    """
    found = {}
    for parent in folders_of_repository(folder):
        found = _asked_in(parent) | found
    return found


def folders_of_repository(folder: Path) -> list[Path]:
    """A folder and those above it, up to its repository's root."""
    above = [folder, *folder.parents]
    for count, parent in enumerate(above, 1):
        if (parent / ".git").exists():
            return above[:count]
    return [folder]


def transformers_elsewhere(folder: Path) -> str | None:
    """The transformers that other folders of the repository pin, "" where one lets in the newest.

    Of several versions it is the newest: that one takes the least of the old names. None where no
    folder of the repository asks for any; outside a repository "", for there nobody can look.
    """
    root = folders_of_repository(folder)[-1]
    return _pinned_below(root, stamp(root)) if (root / ".git").exists() else ""


@cache
def _pinned_below(root: Path, _changed: float) -> str | None:
    below = [*root.glob("[!.]*/"), *root.glob("[!.]*/[!.]*/")][:MANY_FOLDERS]
    asked = [_asked_in(folder) for folder in below if folder.is_dir()]
    if not any({"transformers", "trl"} & set(pins) for pins in asked):
        return None
    pins = [pins for pins in asked if "transformers" in pins]
    versions = [version_in_force("transformers", one) for one in pins]
    if not pins or not all(version.pinned for version in versions):
        return ""
    newest = max(range(len(pins)), key=lambda place: versions[place].number)
    return pins[newest]["transformers"]


def _asked_in(folder: Path) -> dict[str, str]:
    found = {}
    for file in fitting_files(folder, _PLACES, stamp(folder)):
        found = by_package(_asked_by(file, stamp(file)), found)
    # Nobody here knows what a copy takes.
    if any((folder / copy).exists() for copy in _COPIES):
        found["transformers"] = "===file"
    return found


@cache
def fitting_files(folder: Path, patterns: tuple[str, ...], _changed: float) -> tuple[Path, ...]:
    """The files of a folder that fit the patterns, in their order: listing it anew for each of
    thousands of files in it would take minutes.
    """
    found = []
    for pattern in patterns:
        found += sorted(folder.glob(pattern))
    return tuple(found)


def has_parser_of_its_own(file: str) -> bool:
    """Whether the file's repository has the dataclass that LLaMA-Factory's fields are, as its own.

    Then the project reads the file with its own transformers, and the tool's limits are no matter.
    """
    return _defines_finetuning_type(folders_of_repository(Path(file).absolute().parent)[-1])


@cache
def _defines_finetuning_type(root: Path) -> bool:
    if not (root / ".git").exists():
        return False
    for script, text in scripts_of(root):
        # A copy of the tool inside of a project is the tool.
        if _FIELD.search(text) and not _THE_TOOL.search(script.as_posix()):
            return True
    return False


def scripts_of(root: Path) -> Iterable[tuple[Path, str]]:
    """(path from the root, text) of a repository's own scripts, MANY_SCRIPTS at most.

    Those of an environment, which is installed in a hidden folder as a rule, are not its own.
    """
    count = 0
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name[0] != "." and name != "site-packages"]
        for name in files:
            if name[0] == "." or not name.endswith(".py") or count == MANY_SCRIPTS:
                continue
            count += 1
            script = Path(folder) / name
            try:
                yield script.relative_to(root), script.read_text("utf-8", errors="replace")
            except OSError:
                continue


def stamp(file: Path) -> float:
    """When a file was changed, so that what was read of it before holds or does not."""
    try:
        return file.stat().st_mtime
    except OSError:
        return 0


@cache
def _asked_by(file: Path, _changed: float) -> list[str]:
    try:
        if file.name in ("pyproject.toml", "Pipfile"):
            return _of_tables(read_toml(file, "requirements"))
        text = _decoded(file.read_bytes())
    except (OSError, BadInput):  # what cannot be read asks for nothing
        return []
    if file.suffix == ".lock":
        return [f"{name}=={version}" for name, version in _LOCKED.findall(text)]
    if file.suffix in (".yml", ".yaml"):
        has_usual_name = file.name.startswith(("environment", "conda"))
        if not has_usual_name and not _NEEDS.search(text):
            return []
        return [_of_conda(line) for line in text.split("\n")]
    if file.suffix in (".txt", ".in"):
        return text.split("\n")
    if file.name == "setup.py":
        return QUOTED.findall(text)
    if file.name == "setup.cfg":
        return [line.rpartition(" = ")[2].strip() for line in text.split("\n")]
    if file.suffix == ".md":
        return listed_in(text) + requirements_in(text)
    return requirements_in(text)


def _decoded(content: bytes) -> str:
    """A file's text; PowerShell's `pip freeze >` writes UTF-16, with its mark before it."""
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = content.decode("utf-16" if is_wide else "utf-8-sig", errors="replace")
    return text.replace("\r\n", "\n")


def _of_conda(line: str) -> str:
    """A line of an environment as pip would write it: conda's one `=` is a prefix."""
    written = _CONDA.match(line)
    if written is None or "git+" in line:
        return line.strip(" -\"'")
    name = written[1]
    specifier = (written[2] or "").strip()
    if re.match(r"=[^=]", specifier):
        version = specifier[1:].partition("=")[0].strip()
        is_whole = version.count(".") >= 2 or version.endswith("*")
        return f"{name}=={version}" if is_whole else f"{name}=={version}.*"
    return name + specifier


def _of_tables(table: Mapping) -> list[str]:
    """The requirements of a pyproject.toml or Pipfile, its optional groups among them."""
    project = _table(table, "project")
    poetry = _table(_table(table, "tool"), "poetry")
    groups = [*_table(project, "optional-dependencies").values()]
    groups += _table(table, "dependency-groups").values()
    groups.append(project.get("dependencies"))
    found = []
    for group in groups:
        listed = group if isinstance(group, list) else []
        found += [one for one in listed if isinstance(one, str)]
    named = [_table(poetry, "dependencies"), _table(table, "dev-packages")]
    named.append(_table(table, "packages"))
    for group in _table(poetry, "group").values():
        if isinstance(group, dict):
            named.append(_table(group, "dependencies"))
    for versions in named:
        found += _named(versions)
    return found


def _table(table: Mapping, key: str) -> Mapping:
    found = table.get(key)
    return found if isinstance(found, dict) else {}


def _named(versions: Mapping) -> Iterable[str]:
    """`transformers = "^4.40"`, or a table with its version, as pip would write it."""
    found = []
    for name, version in versions.items():
        if isinstance(version, dict):
            version = version.get("version")
        if not isinstance(version, str):
            continue
        number = version.lstrip("^~=")
        if version.startswith("^"):
            version = f">={number},<{int(number.partition('.')[0] or 0) + 1}"
            if number.startswith("0."):
                version = f"=={'.'.join(number.split('.')[:2])}.*"
        elif re.match(r"~\d", version):
            version = f"=={'.'.join(number.split('.')[:2])}.*"
        elif version[:1].isdigit():
            version = f"=={version}"
        found.append(name + version.replace("*", "") if version == "*" else name + version)
    return found
