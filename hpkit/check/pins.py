"""The versions that a file installs, or its project: `pip install`, PEP 723, requirements."""

import re
import shlex
from collections.abc import Iterable
from pathlib import Path

from hpkit.errors import BadInput
from hpkit.files import read_toml

#: `pip install …`, wherever it stands: a cell's shell line, a comment, a docstring, a command.
_INSTALL = re.compile(r"\bpip3?[\"',\s]+install\b(.*)")
#: `dependencies = [ … ]` of a block that begins with `# /// script`.
_SCRIPT_BLOCK = re.compile(r"(?ms)^# /// script$(.*?)^# ///$")
_QUOTED = re.compile(r"[\"']([^\"']+)[\"']")
#: A cell or a here-document that writes a file of requirements.
_REQUIREMENTS = re.compile(r"%%(?:writefile|file)\s+\S*requirements\S*\.txt|>\s*\S*requirements\S*")
#: The packages whose version matters here.
PINNED = ("transformers", "trl", "peft")


def pins_of(file: str, texts: Iterable[str]) -> tuple[dict[str, str], str]:
    """(package -> specifier, who says so) of a file; of its project where the file is silent."""
    own = pins(texts)
    project = _pins_of_project(Path(file).absolute().parent)
    asked = {package: pin for package, pin in {**project, **own}.items() if pin}
    return asked, "this file installs" if any(own.values()) else "its project asks for"


def _pins_of_project(folder: Path) -> dict[str, str]:
    """What the requirements of the nearest folder that has some ask for, within a repository."""
    for parent in (folder, *folder.parents):
        found = _requirements_in(parent)
        if found:
            return _by_package(found)
        is_root = (parent / ".git").exists() or (parent / "pyproject.toml").exists()
        if is_root or not _is_in_repository(parent):
            break
    return {}


def _is_in_repository(folder: Path) -> bool:
    return any((parent / ".git").exists() for parent in (folder, *folder.parents))


def _requirements_in(folder: Path) -> list[str]:
    """The requirements that the files of a folder list."""
    found = []
    try:
        for file in sorted(folder.glob("requirements*.txt")):
            found += file.read_text(encoding="utf-8", errors="replace").split("\n")
        setup = folder / "setup.py"
        if setup.is_file():
            found += _QUOTED.findall(setup.read_text(encoding="utf-8", errors="replace"))
        if (folder / "pyproject.toml").is_file():
            project = read_toml(folder / "pyproject.toml", "requirements").get("project")
            listed = project.get("dependencies") if isinstance(project, dict) else None
            found += listed if isinstance(listed, list) else []
    except (OSError, BadInput):  # what cannot be read asks for nothing
        return []
    return [line for line in found if isinstance(line, str)]


def pins(texts: Iterable[str]) -> dict[str, str]:
    """package -> specifier, as `==4.56.2`, of PINNED; a later line overrides an earlier one.

    A package that is installed without a version, or from a repository, is the newest: its
    specifier is empty.
    """
    found = []
    for text in texts:
        found += _requirements(text)
    return _by_package(found)


def _by_package(requirements: Iterable[str]) -> dict[str, str]:
    found = {}
    for requirement in requirements:
        name, specifier = _parsed(requirement)
        if name in PINNED:
            found[name] = specifier
    return found


def _requirements(text: str) -> list[str]:
    """What a text installs, requirement by requirement."""
    found = []
    for block in _SCRIPT_BLOCK.findall(text):
        found += _QUOTED.findall(block)
    joined = re.sub(r"\\\n", " ", text)
    # An exported notebook has its cells as texts, in which a line's end is written out.
    for line in re.split(r"\n|\\n", joined):
        installed = _INSTALL.search(line)
        if installed:
            found += _installed(installed[1])
    if _REQUIREMENTS.search(text):
        found += [line.strip() for line in text.split("\n")[1:]]
    return found


def _installed(line: str) -> list[str]:
    """The words of the rest of a `pip install` line, without its options."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:  # a quotation mark of a text around the line
        words = line.split()
    return [word.strip("\"',`()[]") for word in words if not word.startswith("-")]


def _parsed(requirement: str) -> tuple[str, str]:
    """(package, specifier); ("", "") for what is no requirement."""
    from packaging.requirements import InvalidRequirement, Requirement

    # Most lines name another package, and parsing each takes longer than reading the file.
    if not any(package in requirement for package in PINNED):
        return "", ""
    repository = re.search(r"git\+\S*/(\w+?)(?:\.git)?(?:@v?(\d[\w.]*))?(?:[#@]|$)", requirement)
    if repository:
        tag = repository[2]
        return repository[1].lower(), f"=={tag}" if tag else ""
    try:
        parsed = Requirement(requirement)
    except InvalidRequirement:
        return "", ""
    return parsed.name.lower(), str(parsed.specifier)
