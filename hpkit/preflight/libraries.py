"""What the libraries take, and in which version: their signatures, and the versions in force.

`data/signatures.json` has them by version, made by `tests/check/signatures.py` from the libraries'
own wheels. Of the transformers that is installed its source tells.
"""

import ast
import importlib.metadata
import importlib.util
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from hpkit.files import data_folder

#: What unsloth 2026.10.9 (its metadata, read 2026-11-27) lets pip install beside itself. It patches
#: TRL's configs and trainers, so that they rename or drop what TRL no longer takes (its
#: models/rl_config_compat.py): there no name is a mistake.
BESIDE_UNSLOTH = {"transformers": ">=4.52.4,<=5.17.0", "trl": ">=0.18.2,<=1.15.0"}

#: The least transformers that TRL lets pip install beside itself, since which TRL (the metadata of
#: its wheels 0.7 to 1.16).
TRL_NEEDS = {
    "0.11": "4.40",
    "0.13": "4.46",
    "0.18": "4.50",
    "0.19": "4.51",
    "0.20": "4.53.2",
    "0.21": "4.55",
    "0.23": "4.56.1",
    "0.27": "4.56.2",
}

#: Modules of TRL that went as a whole, and the last version known here that has them (its wheels).
GONE_MODULES = {
    "trl.commands.cli_utils": "0.12.2",
    "trl.core": "0.24.0",
    "trl.env_utils": "0.12.2",
    "trl.environment": "0.20.0",
    "trl.extras.best_of_n_sampler": "0.24.0",
    "trl.models.modeling_base": "0.28.0",
    "trl.models.modeling_value_head": "0.28.0",
    "trl.trainer.orpo_config": "0.28.0",
    "trl.trainer.orpo_trainer": "0.28.0",
    "trl.trainer.ppo_config": "0.28.0",
    "trl.trainer.ppo_trainer": "0.28.0",
}


class Version(NamedTuple):
    """A version that a file is judged by; `pinned`: the file says so itself.

    Of a commit, or a package on a disk, nobody here knows the version: its text is empty.
    """

    text: str
    pinned: bool

    @property
    def number(self) -> tuple[int, ...]:
        """As numbers, to be compared."""
        return number_of(self.text)


@cache
def number_of(text: str) -> tuple[int, ...]:
    """A version's parts, so that versions can be compared."""
    return tuple(int(part) for part in text.split(".") if part.isdecimal())


@cache
def _signatures() -> dict:
    return json.loads((data_folder() / "signatures.json").read_text(encoding="utf-8"))


def version_in_force(package: str, pins: Mapping[str, str]) -> Version:
    """The newest version that a file's pins allow; without a pin the one that is known here.

    `pins`: package -> specifier, as `==4.56.2`. One that nobody can read counts as none.
    """
    return _version_allowed(package, pins.get(package))


def oldest_in_force(package: str, pins: Mapping[str, str]) -> Version:
    """The oldest version known here that a file's pins allow; the one in force without a pin."""
    allowed = _specifiers(pins.get(package))
    for version in _signatures()[package]["versions"]:
        if allowed is not None and allowed.contains(version):
            return Version(version, pinned=True)
    return version_in_force(package, pins)


def allows(package: str, pins: Mapping[str, str], version: str) -> bool:
    """Whether the pins let in this version."""
    allowed = _specifiers(pins.get(package))
    return allowed is None or allowed.contains(version)


def _specifiers(pin: str | None):
    """What a pin allows, as packaging has it; None where there is none that can be read."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        return None if pin is None else SpecifierSet(pin)
    except InvalidSpecifier:
        return None


def pins_that_fit(pins: Mapping[str, str]) -> dict[str, str]:
    """The pins, with a TRL that the pinned transformers lets pip install beside itself."""
    transformers = version_in_force("transformers", pins)
    if not transformers.pinned or version_in_force("trl", pins).pinned:
        return dict(pins)
    for trl, needed in TRL_NEEDS.items():
        if number_of(needed) > transformers.number:
            return {**pins, "trl": f"<{trl}"}
    return dict(pins)


@cache
def _version_allowed(package: str, pin: str | None) -> Version:
    versions = _signatures()[package]["versions"]
    newest = versions[-1]
    if package == "transformers":
        newest = importlib.metadata.version("transformers")
    if pin is not None and re.fullmatch(r"===(file|[0-9a-f]{7,40})", pin):
        return Version("", pinned=False)
    allowed = _specifiers(pin)
    if allowed is None or allowed.contains(newest):
        return Version(newest, pinned=False)
    for version in reversed(versions):
        if allowed.contains(version):
            return Version(version, pinned=True)
    # A patch release between those of the table: the nearest one before it.
    exact = [spec.version for spec in allowed if spec.operator in ("==", "===", "~=", "<=", "<")]
    for version in reversed(versions):
        if exact and number_of(version)[:2] <= number_of(exact[0])[:2]:
            return Version(version, pinned=True)
    if exact:  # older than all that is known
        return Version(versions[0], pinned=True)
    return Version(newest, pinned=False)


def takes(package: str, class_name: str, argument: str, version: Version) -> bool | None:
    """Whether a class takes an argument in a version; None where that version has no such class.

    Of a version that nobody knows none is refused.
    """
    if not version.text:
        return True
    span = _span(package, class_name, argument)
    if not is_known(package, class_name, version):
        return None
    if package == "transformers" and not version.pinned and not class_name.endswith("Trainer"):
        return argument in training_argument_names()
    if span is None:
        return False
    return _is_within(span, version)


def last_with(package: str, class_name: str, argument: str) -> str | None:
    """The last version whose class took an argument, None where none did or all do."""
    span = _span(package, class_name, argument)
    return span[1] if span else None


def first_with(package: str, class_name: str, argument: str) -> str | None:
    """The first version known here whose class takes an argument, None where none does."""
    span = _span(package, class_name, argument)
    return span[0] if span else None


def last_before(package: str, version: str) -> str:
    """The version known here that came before another one."""
    versions = _signatures()[package]["versions"]
    return versions[versions.index(version) - 1]


@cache
def names_of(package: str, class_name: str) -> frozenset[str]:
    """What the newest known version of a class takes."""
    spans = _signatures()[package]["classes"].get(class_name, {})
    return frozenset(argument for argument, span in spans.items() if span[1] is None)


@cache
def was_taken(package: str, argument: str) -> bool:
    """Whether any class of a package takes an argument, or took it once."""
    return any(argument in spans for spans in _signatures()[package]["classes"].values())


def known_classes(package: str) -> list[str]:
    """The classes of a package that the table has."""
    return list(_signatures()[package]["classes"])


@cache
def is_known(package: str, class_name: str, version: Version) -> bool:
    """Whether the table has a class, in this version."""
    spans = _signatures()[package]["classes"].get(class_name, {})
    return any(_is_within(span, version) for span in spans.values())


def last_import(package: str, name: str) -> str | None:
    """The last version from which a name, or a module, could be imported; None where it can."""
    return _signatures()[package]["gone"].get(name) or GONE_MODULES.get(name)


def _is_within(span: list, version: Version) -> bool:
    since, until = span
    is_old_enough = until is None or version.number[:2] <= number_of(until)[:2]
    return number_of(since)[:2] <= version.number[:2] and is_old_enough


def _span(package: str, class_name: str, argument: str) -> list | None:
    return _signatures()[package]["classes"].get(class_name, {}).get(argument)


# The transformers that is installed.

#: Classes whose defaults are exactly transformers'.
TRANSFORMERS_ARGUMENTS = ("TrainingArguments", "Seq2SeqTrainingArguments")


def training_argument_names() -> frozenset[str]:
    """The arguments that the installed TrainingArguments and Seq2SeqTrainingArguments take."""
    return _of_installed()[0]


def optimizer_names() -> frozenset[str]:
    """What the installed transformers takes for `optim`."""
    return _of_installed()[1]


@cache
def _of_installed() -> tuple[frozenset[str], frozenset[str]]:
    """(arguments, optimizers), from the source: importing transformers would take seconds."""
    package = Path(importlib.util.find_spec("transformers").origin).parent
    classes = {}
    for file in ("training_args.py", "training_args_seq2seq.py"):
        source = (package / file).read_text(encoding="utf-8")
        for node in ast.parse(source).body:
            if isinstance(node, ast.ClassDef):
                classes[node.name] = node
    arguments = set()
    for class_name in TRANSFORMERS_ARGUMENTS:
        for node in classes[class_name].body:
            # A field of a dataclass is an assignment with a type: `bf16: bool = field(…)`.
            if isinstance(node, ast.AnnAssign):
                arguments.add(node.target.id)
    members = [node for node in classes["OptimizerNames"].body if isinstance(node, ast.Assign)]
    return frozenset(arguments), frozenset(member.value.value for member in members)
