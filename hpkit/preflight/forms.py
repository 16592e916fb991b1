"""How a file writes its arguments, so that a fix can be pasted into it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from hpkit.formatting import shown


class _LeaveOut:
    def __repr__(self) -> str:
        return "left out"


#: In a finding's changes: the argument goes, and its default holds.
LEAVE_OUT = _LeaveOut()


@dataclass(frozen=True)
class Form:
    """A way to write arguments.

    `language`: python, yaml, json, flags (of a command line), or recipe, as this kit's own command
    writes them. `names`: transformers' name -> the file's own word for it, where it has another.
    """

    language: str = "python"
    names: Mapping[str, str] = field(default_factory=dict)

    def word(self, argument: str) -> str:
        """The file's own name of an argument."""
        return self.names.get(argument, argument)

    def setting(self, argument: str, value) -> str:
        """`argument` with its value, as the file would have it."""
        write = _WRITERS[self.language]
        return write(self.word(argument), value)

    def value(self, value) -> str:
        """A value alone."""
        if self.language == "recipe":
            return shown(value)
        if self.language == "python":
            return python_literal(value)
        return _plain_text(value)


def python_literal(value) -> str:
    """A value as Python text; texts in double quotes."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        parts = [f"{python_literal(key)}: {python_literal(part)}" for key, part in value.items()]
        return "{" + ", ".join(parts) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(python_literal, value)) + "]"
    return repr(value)


def _plain_text(value) -> str:
    """A value as JSON has it, which YAML reads as well; a text in quotes only where it needs them.

    To YAML a bare `no` is false, and `1e-4` without a point is a text.
    """
    if isinstance(value, str):
        plain = value.replace("_", "").replace("-", "").isalnum() and value not in _YAML_WORDS
        if plain and not value[0].isdigit():
            return value
    return json.dumps(value)


_YAML_WORDS = ("no", "yes", "on", "off", "true", "false", "null", "none")


def _flag(name: str, value) -> str:
    if isinstance(value, dict):
        return f"--{name} '{json.dumps(value)}'"
    if isinstance(value, list):
        return f"--{name} {' '.join(map(str, value))}"
    return f"--{name} {value}"


_WRITERS = {
    "python": lambda name, value: f"{name}={python_literal(value)}",
    "yaml": lambda name, value: f"{name}: {_yaml(value)}",
    "json": lambda name, value: f'"{name}": {json.dumps(value)}',
    "flags": _flag,
    "recipe": lambda name, value: f"{name}={shown(value)}",
}


def _yaml(value) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(part)}" for key, part in value.items()) + "}"
    if isinstance(value, float):
        # YAML 1.1 takes 1e-05 for a text: a number of its own has a point.
        text = repr(value)
        if "e" in text and "." not in text:
            text = text.replace("e", ".0e")
        return text
    return _plain_text(value)


def change_in_words(changes: Mapping[str, object], advice: str, form: Form) -> str:
    """What mends a finding, in one line: the values to set, the arguments to leave out, the why."""
    settings = []
    gone = []
    for argument, value in changes.items():
        if value is LEAVE_OUT:
            gone.append(form.word(argument))
        else:
            settings.append(form.setting(argument, value))
    if len(settings) == len(gone) == 1:
        text = f"write {settings[0]} in place of {gone[0]}"
    elif settings:
        text = f"set {', '.join(settings)}"
        if gone:
            text += f", and leave out {', '.join(gone)}"
    elif gone:
        text = f"leave out {', '.join(gone)}"
    else:
        return advice
    if advice:
        joint = ", " if advice.startswith(_GOES_ON) else ": "
        text += joint + advice
    return text


#: An advice that begins with one of these goes on with the sentence.
_GOES_ON = ("or ", "and ", "which ", "with ", "for ")
