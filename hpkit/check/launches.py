"""Lines that launch a training, in shell files and cells: `torchrun train.py --bf16 True`."""

import dataclasses
import re
import shlex
from dataclasses import dataclass

from hpkit.check.calls import Call
from hpkit.check.cells import Source
from hpkit.check.dialects import OTHER_PARSERS, Place, call_of, dialects, is_training_argument

#: What starts a training, where it stands in the line.
_LAUNCHER = re.compile(
    r"(?:^|[\s;&|(])(torchrun|accelerate\s+launch|deepspeed|python3?|uv\s+run|trl|llamafactory-cli|"
    r"axolotl)\s"
)
#: A value that the shell puts in, or a template's own tool: `$N`, `___N___`, `<n>`, `{{n}}`.
_UNTOLD = re.compile(r"[$`]|^(__+\w+__+|<.*>|\{\{.*\}\}|@\w+@|%\w+%)$")
#: Words of a shell line that end a command.
_ENDS = {"|", "||", "&", "&&", ";", ">", ">>", "<", "2>&1", "done", "}", ")"}
#: Arguments of launchers that say how many processes there are.
_PROCESSES = ("nproc_per_node", "num_processes", "num_gpus")
#: At least one of these makes a line a Trainer's; learning_rate alone has every parser.
_DISTINCTIVE = re.compile(
    r"per_device_\w+|\w+_strategy|warmup_(steps|ratio)|logging_steps|save_steps|eval_steps|"
    r"num_train_epochs|gradient_accumulation_steps|bf16|fp16|lr_scheduler_type|max_grad_norm"
)
#: What TRL's command trains by.
_TRL_CONFIGS = {
    "sft": "SFTConfig",
    "dpo": "DPOConfig",
    "grpo": "GRPOConfig",
    "kto": "KTOConfig",
    "reward": "RewardConfig",
    "rloo": "RLOOConfig",
}


@dataclass(frozen=True)
class _Line:
    """A command, its continuations joined, with the number of its first line."""

    text: str
    number: int
    is_inside: bool = False
    parts: tuple[str, ...] = ()

    def of_flag(self, name: str) -> int:
        """The number of the line, among those that a command goes on over, that has a flag."""
        written = re.compile(rf"--{name.replace('_', '[-_]')}(?![\w-])")
        for offset, part in enumerate(self.parts):
            if written.search(part):
                return self.number + offset
        return self.number


def launch_calls(source: Source) -> list[Call]:
    """The launch lines in a notebook's cells; a script has none of its own."""
    found = []
    for cell, text in source.shell_texts:
        found += _calls(source.file, cell, text, source.texts)
    return found


def shell_calls(file: str, text: str) -> tuple[list[Call], list[str]]:
    """(calls, notes) of a shell file."""
    calls = _calls(file, None, text, [text])
    notes = [] if calls else ["no line that launches a training was found"]
    return calls, notes


def _calls(file: str, cell: int | None, text: str, all_texts: list[str]) -> list[Call]:
    lines = _lines(text)
    variables, arrays = _variables(lines)
    found = []
    for line in lines:
        launcher = _LAUNCHER.search(line.text)
        if launcher is None or line.text.startswith(("#", "echo ", "printf ")):
            continue
        words = _words(line.text[launcher.start(1) :], variables, arrays)
        call = _call(file, cell, line, words, all_texts)
        if call is not None:
            found.append(call)
    return found


def _lines(text: str) -> list[_Line]:
    """The commands of a shell text: continued lines and arrays joined, comments left in."""
    found = []
    waiting = ""
    started = 0
    is_inside = False
    parts = []
    for number, line in enumerate(text.split("\n"), 1):
        started = started or number
        if not waiting:
            is_inside = line.startswith((" ", "\t"))
            parts = []
        parts.append(line)
        if waiting and line.lstrip().startswith("#"):
            continue  # a comment among the continued lines of an array
        waiting += line.strip()
        is_open_array = re.match(r"\w+=\(", waiting) and not waiting.rstrip().endswith(")")
        if waiting.endswith("\\"):
            waiting = waiting[:-1].rstrip() + " "
        elif is_open_array:
            waiting = re.sub(r"\s#.*$", "", waiting) + " "
        else:
            found.append(_Line(waiting, started, is_inside, tuple(parts)))
            waiting = ""
            started = 0
    if waiting:
        found.append(_Line(waiting, started))
    return found


def _variables(lines: list[_Line]) -> tuple[dict[str, str | None], dict[str, str]]:
    """({variable: its only value, None where it has several}, {array: its words}).

    A default counts, `${N:-4}`, because the environment rarely has another.
    """
    variables = {}
    arrays = {}
    for line in lines:
        loop = re.match(r"for\s+(\w+)\s+in\b", line.text)
        if loop:
            variables[loop[1]] = None
        array = re.match(r"(\w+)=\((.*)\)\s*$", line.text)
        if array:
            arrays[array[1]] = array[2]
            continue
        for name, value in re.findall(
            r"(?:^|;|\bexport\s+|\blocal\s+)\s*(\w+)=(\"[^\"]*\"|'[^']*'|[^\s;]*)", line.text
        ):
            text = value.strip("\"'")
            # What a branch sets afterwards may hold or not: the plain value is the default.
            if line.is_inside and variables.get(name) is not None:
                continue
            variables[name] = text if variables.get(name, text) == text else None
    return variables, arrays


def _words(line: str, variables: dict, arrays: dict) -> list[str]:
    """The words of a command, variables put in; one that nobody knows keeps its `$`."""
    for name, words in arrays.items():
        line = re.sub(rf"[\"']?\$\{{{name}\[[@*]\]\}}[\"']?", lambda _, w=words: w, line)

    def put_in(match: re.Match) -> str:
        name = match[1] or match[3]
        value = variables.get(name)
        if name not in variables:
            value = match[2]
        return match[0] if value is None else value

    for _ in range(3):  # a variable may be made of others
        line = re.sub(r"\$(?:\{(\w+)(?::?-([^}]*))?\}|(\w+))", put_in, line)
    # An end of a command that is escaped is none.
    line = re.sub(r"\\[;&|]+", "", line)
    # A remark among continued lines, "`# why`", is a command that does and writes nothing.
    line = re.sub(r"`\s*#[^`]*`", " ", line)
    try:
        words = shlex.split(line, comments=True)
    except ValueError:  # an open quotation mark
        words = line.split()
    found = []
    for word in words:
        if word in _ENDS:
            break
        found.append(word.rstrip(";"))
    return found


def _call(
    file: str, cell: int | None, line: _Line, words: list[str], texts: list[str]
) -> Call | None:
    """The training that a command starts; None where it starts none."""
    command, launcher_words, flags = _parted(words)
    given, unread = _flags(flags)
    if command.startswith("axolotl") or "swift/cli/" in command:
        return None  # flags with names and defaults of their own
    if not command or OTHER_PARSERS & set(given) or command.endswith("_no_trainer.py"):
        return None
    dialect = dialects()["transformers"]
    class_name = ""
    if command.startswith("trl ") or re.search(r"\btrl[./]scripts[./]", command):
        dialect = dialects()["trl"]
        method = re.split(r"[ ./]", command.removesuffix(".py"))[-1]
        class_name = _TRL_CONFIGS.get(method, "")
    elif command.startswith("llamafactory-cli"):
        dialect = dialects()["llamafactory"]
    known = [name for name in (*given, *unread) if is_training_argument(name)]
    if len(known) < 2 or not any(_DISTINCTIVE.fullmatch(name) for name in known):
        return None
    launched, _ = _flags(launcher_words)
    counts = [launched.get(name) for name in _PROCESSES]
    processes = next((count for count in counts if isinstance(count, int)), None)
    # What stands in a file of settings beside it is not told here.
    if "config" in given or any(word.endswith((".yaml", ".yml", ".json")) for word in flags[:1]):
        unread = [*unread, "**config"]
    settings = {name: (value, line.of_flag(name)) for name, value in given.items()}
    call = call_of(
        dialect,
        settings,
        Place(file, cell, line.number),
        "flags",
        unread=unread,
        texts=texts,
        processes=processes,
        class_name=class_name,
    )
    script = command if dialect.name == "transformers" else ""
    return dataclasses.replace(call, script=script)


def _parted(words: list[str]) -> tuple[str, list[str], list[str]]:
    """(what is started, the launcher's flags, the script's flags)."""
    if words[0] in ("trl", "llamafactory-cli", "axolotl"):
        return " ".join(words[:2]), [], words[2:]
    for place, word in enumerate(words):
        if word.endswith(".py"):
            return word, words[1:place], words[place + 1 :]
        is_module = word in ("-m", "--module") and place + 1 < len(words)
        if is_module and not words[place + 1].startswith(("torch.distributed", "accelerate")):
            return words[place + 1], words[1:place], words[place + 2 :]
        if place and word.startswith("$") and not words[place - 1].startswith("-"):
            return word, words[1:place], words[place + 1 :]  # `"$SCRIPT"`, whatever it is
    return "", [], words[1:]


def _flags(words: list[str]) -> tuple[dict, list[str]]:
    """({flag: value}, flags whose value is not told), `--a-b` and `--a_b` being the same."""
    given = {}
    unread = []
    name = None
    for word in words:
        flag = re.match(r"--?([A-Za-z][\w-]*)(?:=(.*))?$", word, re.DOTALL)
        if flag and not re.fullmatch(r"-\d.*", word):
            name = flag[1].replace("-", "_")
            switched_off = name.removeprefix("no_")
            if name != switched_off and is_training_argument(switched_off):
                name = switched_off  # HfArgumentParser makes one for each switch that is on
                given[name] = False
                continue
            given[name] = _value(flag[2]) if flag[2] is not None else True
            if flag[2] and _UNTOLD.search(flag[2]):
                unread.append(name)
        elif word in ("$@", "$*"):
            name = None  # the caller's own flags
        elif name is not None:
            if _UNTOLD.search(word):
                unread.append(name)
            if given[name] is True:
                given[name] = _value(word)
            elif isinstance(given[name], list):
                given[name].append(_value(word))
            else:
                given[name] = [given[name], _value(word)]
    for untold in unread:
        given.pop(untold, None)
    return given, unread


def _value(text: str):
    """A word as the number or switch that it writes; a text otherwise."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text
