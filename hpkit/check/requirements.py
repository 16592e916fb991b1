"""What texts install, requirement by requirement: `pip install`, PEP 723, a written file."""

import re
import shlex
from collections.abc import Iterable, Mapping

#: `pip install …`, wherever it stands: a cell's shell line, a comment, a docstring, a command.
_INSTALL = re.compile(r"\bpip3?[\"',\s]+install\b(.*)")
#: `dependencies = [ … ]` of a block that begins with `# /// script`.
_SCRIPT_BLOCK = re.compile(r"(?ms)^# /// script$(.*?)^# ///$")
QUOTED = re.compile(r"[\"']([^\"']+)[\"']")
#: Modal's images: `.pip_install("trl==0.9.6", …)`, mostly over several lines.
_INSTALL_CALL = re.compile(r"pip_install\(([^)]*)\)")
#: A cell or a here-document that writes a file of requirements.
_REQUIREMENTS = re.compile(r"%%(?:writefile|file)\s+\S*requirements\S*\.txt|>\s*\S*requirements\S*")
#: `-U`, also among other letters, as `-qU`.
_UPGRADES = re.compile(r"(?<!\S)(?:-\w*U\w*|--upgrade)(?!\S)")
#: Stands before a requirement whose line has that option.
_UPGRADE = "--upgrade "
#: `- `, `2. ` and `> ` before what prose lists, and the mark of code.
_LIST_MARK = re.compile(r"^[\s>*+`-]*(?:\d+[.)]\s+)?`*")
_CODE = re.compile(r"`([^`]+)`")
_CELL_VERSION = re.compile(r"(?:==|v)?\s*(\d+(?:\.\d+)+)")
_COMMIT = re.compile(r"[0-9a-f]{7,40}")
#: The packages whose version matters here.
PINNED = ("transformers", "trl", "peft")


def pins(texts: Iterable[str]) -> dict[str, str]:
    """package -> specifier, as `==4.56.2`, of PINNED; a later line overrides an earlier one.

    A package that is installed without a version, or from a repository, is the newest: its
    specifier is empty. That of a commit is `===` and the commit, a version that nobody here knows,
    and `===file` that of a package on somebody's disk.
    """
    return by_package(requirements_in(*texts))


def by_package(requirements: Iterable[str], before: Mapping[str, str] = {}) -> dict[str, str]:
    """package -> specifier, of PINNED, as it is after these where `before` was there already."""
    found = dict(before)
    for requirement in requirements:
        name, specifier = _parsed(requirement)
        if name not in PINNED:
            continue
        # pip leaves what is installed already where a line has the name alone.
        is_bare = not specifier and "git+" not in requirement
        if is_bare and not requirement.startswith(_UPGRADE):
            specifier = found.get(name, "")
        found[name] = specifier
    return found


def requirements_in(*texts: str) -> list[str]:
    """What texts install, requirement by requirement.

    A line that is a remark counts where no other names its package: there it says how to install.
    """
    found = []
    remarked = []
    for text in texts:
        for block in _SCRIPT_BLOCK.findall(text):
            found += QUOTED.findall(block)
        for arguments in _INSTALL_CALL.findall(text):
            found += QUOTED.findall(arguments)
        joined = re.sub(r"\\\n", " ", text)
        # An exported notebook has its cells as texts, in which a line's end is written out.
        for line in re.split(r"\n|\\n", joined):
            installed = _INSTALL.search(line)
            if installed:
                is_remark = line.lstrip(" \t\"'").startswith("#")
                (remarked if is_remark else found).extend(_installed(installed[1]))
        if _REQUIREMENTS.search(text):
            found += [line.strip() for line in text.split("\n")[1:]]
    named = {_parsed(requirement)[0] for requirement in found}
    return [one for one in remarked if _parsed(one)[0] not in named] + found


def _installed(line: str) -> list[str]:
    """The words of the rest of a `pip install` line, without its options."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:  # a quotation mark of a text around the line
        words = line.split()
    before = _UPGRADE if _UPGRADES.search(line) else ""
    return [before + word.strip("\"',`()[]") for word in words if not word.startswith("-")]


def listed_in(text: str) -> list[str]:
    """The requirements that prose has as code, lines, list items or cells of a table.

    A package that stands there with several versions has none: they are for several things.
    """
    found = {}
    for line in text.lower().split("\n"):
        if not any(package in line for package in PINNED):
            continue
        cells = [_LIST_MARK.sub("", cell).strip(" \t\r`") for cell in line.split("|")]
        versions = [_CELL_VERSION.fullmatch(cell) for cell in cells]
        if sum(map(bool, versions)) > 1:  # the least, and the one that is recommended
            continue
        words = [f"{cell}=={v[1]}" if v else cell for cell, v in zip(cells, [*versions[1:], None])]
        for word in words + _CODE.findall(line):
            name, specifier = _parsed(word)
            if name in PINNED and specifier:
                found.setdefault(name, set()).add(specifier)
    return [name + pin for name, pins in found.items() if len(pins) == 1 for pin in pins]


def _parsed(requirement: str) -> tuple[str, str]:
    """(package, specifier); ("", "") for what is no requirement."""
    from packaging.requirements import InvalidRequirement, Requirement

    # Most lines name another package, and parsing each takes longer than reading the file.
    if not any(package in requirement for package in PINNED):
        return "", ""
    # A fork that is imported as transformers, and takes what it took in its day.
    if "adapter-transformers" in requirement:
        return "transformers", "===file"
    repository = re.search(r"git\+\S*/(\w+?)(?:\.git)?(?:@([^#@\s]+))?(?:[#@\s]|$)", requirement)
    if repository:
        return repository[1].lower(), _of_tag(repository[2] or "")
    requirement = requirement.removeprefix(_UPGRADE)
    plain = re.split(r"\s+(?:#|--|\\)", requirement)[0]  # a remark, a hash
    try:
        parsed = Requirement(plain.strip())
    except InvalidRequirement:
        return "", ""
    # Built on another machine, by conda's forge mostly: a version that nobody here knows.
    is_local = (parsed.url or "").startswith("file:")
    return parsed.name.lower(), "===file" if is_local else str(parsed.specifier)


def _of_tag(tag: str) -> str:
    """The specifier of what stands behind the @ of a repository; "" for a branch, as main."""
    if _COMMIT.fullmatch(tag):
        return f"==={tag}"
    version = re.fullmatch(r"v?(\d[\w.]*)", tag)
    return f"=={version[1]}" if version else ""
