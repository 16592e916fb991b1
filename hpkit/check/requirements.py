"""What texts install, requirement by requirement: `pip install`, PEP 723, a written file."""

import re
import shlex
from collections.abc import Iterable

#: `pip install …`, wherever it stands: a cell's shell line, a comment, a docstring, a command.
_INSTALL = re.compile(r"\bpip3?[\"',\s]+install\b(.*)")
#: `dependencies = [ … ]` of a block that begins with `# /// script`.
_SCRIPT_BLOCK = re.compile(r"(?ms)^# /// script$(.*?)^# ///$")
QUOTED = re.compile(r"[\"']([^\"']+)[\"']")
#: Modal's images: `.pip_install("trl==0.9.6", …)`, mostly over several lines.
_INSTALL_CALL = re.compile(r"pip_install\(([^)]*)\)")
#: A cell or a here-document that writes a file of requirements.
_REQUIREMENTS = re.compile(r"%%(?:writefile|file)\s+\S*requirements\S*\.txt|>\s*\S*requirements\S*")
#: The packages whose version matters here.
PINNED = ("transformers", "trl", "peft")


def pins(texts: Iterable[str]) -> dict[str, str]:
    """package -> specifier, as `==4.56.2`, of PINNED; a later line overrides an earlier one.

    A package that is installed without a version, or from a repository, is the newest: its
    specifier is empty.
    """
    found = []
    for text in texts:
        found += requirements_in(text)
    return by_package(found)


def by_package(requirements: Iterable[str]) -> dict[str, str]:
    found = {}
    for requirement in requirements:
        name, specifier = _parsed(requirement)
        if name in PINNED:
            found[name] = specifier
    return found


def requirements_in(text: str) -> list[str]:
    """What a text installs, requirement by requirement."""
    found = []
    for block in _SCRIPT_BLOCK.findall(text):
        found += QUOTED.findall(block)
    for arguments in _INSTALL_CALL.findall(text):
        found += QUOTED.findall(arguments)
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
    plain = re.split(r"\s+(?:#|--|\\)", requirement)[0]  # a remark, a hash
    try:
        parsed = Requirement(plain.strip())
    except InvalidRequirement:
        return "", ""
    return parsed.name.lower(), str(parsed.specifier)
