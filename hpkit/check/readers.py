"""What a repository's own scripts show of who reads its settings files."""

import ast
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from hpkit.check.projects import folders_of_repository, scripts_of, stamp
from hpkit.preflight.arguments import DEPRECATED, SUCCESSORS, TRL_SUCCESSORS

#: What fills dataclasses of transformers and TRL from a file.
_PARSER = re.compile(r"\b(?:HfArgumentParser|H4ArgumentParser|TrlParser)\b")
#: `cfg["eval_steps"]`, `config.get("eval_steps", 100)`, `cfg.eval_steps`.
_READ = re.compile(
    r"""\[\s*["']eval_steps["']\s*\](?!\s*=[^=])|\.get\(\s*["']eval_steps["']"""
    r"|\b(?:cfg|conf|config)\.eval_steps\b"
)
#: `training_args.evaluation_strategy`, `self.args.no_cuda`.
_ATTRIBUTE = re.compile(r"\b\w*(?:args|arguments|config)\.(\w+)\b(?!\s*=[^=])")
_OLD_NAMES = frozenset(SUCCESSORS | DEPRECATED | TRL_SUCCESSORS)
_OLD_FIELD = re.compile(rf"(?m)^[ \t]+(?:{'|'.join(_OLD_NAMES)})\s*:")


class Readers(NamedTuple):
    """What a repository's scripts have.

    `reads_interval`: they take eval_steps out of a mapping or object of their own. `fields`: old
    names that their classes declare. `has_parser`: one of the libraries' parsers. `old_names`: what
    they read of arguments by an old name -> the script and the line.
    """

    reads_interval: bool = False
    fields: frozenset[str] = frozenset()
    has_parser: bool = False
    old_names: Mapping[str, str] = MappingProxyType({})


def readers_of(file: str) -> Readers:
    """The readers in a file's repository; none outside of one."""
    root = folders_of_repository(Path(file).absolute().parent)[-1]
    return _readers_in(root, stamp(root)) if (root / ".git").exists() else Readers()


@cache
def _readers_in(root: Path, _changed: float) -> Readers:
    reads_interval = False
    has_parser = False
    fields = set()
    old_names = {}
    for script, text in scripts_of(root):
        reads_interval = reads_interval or bool(_READ.search(text))
        has_parser = has_parser or bool(_PARSER.search(text))
        # Parsing takes long: a text without such a line has no such field.
        if _OLD_FIELD.search(text):
            fields |= _fields_in(text) & _OLD_NAMES
        for name, line in _old_names_read(text).items():
            old_names.setdefault(name, f"{script.as_posix()}, line {line}")
    return Readers(reads_interval, frozenset(fields), has_parser, old_names)


def _old_names_read(text: str) -> dict[str, int]:
    """Old name -> the first line that reads it; an option or field of the script's own keeps it."""
    found = {}
    for match in _ATTRIBUTE.finditer(text):
        name = match[1]
        if name in SUCCESSORS and not re.search(rf"--{name}\b|\b{name}\s*:", text):
            found.setdefault(name, text.count("\n", 0, match.start()) + 1)
    return found


def _fields_in(text: str) -> set[str]:
    """What the classes of a script declare: `warmup_ratio: float = 0.05`."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return set()
    found = set()
    for node in ast.walk(tree):
        for part in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
                found.add(part.target.id)
    return found
