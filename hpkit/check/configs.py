"""YAML and JSON files of settings: whose they are, and what they set."""

import dataclasses
import json
import re
from functools import cache
from pathlib import Path

from hpkit.check.calls import Call
from hpkit.check.dialects import (
    Place,
    Quoted,
    call_of,
    dialect_of,
    dialects,
    is_training_argument,
)
from hpkit.check.projects import has_parser_of_its_own, stamp
from hpkit.check.readers import readers_of
from hpkit.errors import BadInput
from hpkit.hyperparameters import CARDS
from hpkit.preflight.libraries import training_argument_names, was_taken

#: Files of others that look like settings of a run: (a key, whose file it is).
DECLINED = (
    ("_component_", "a torchtune configuration, whose recipes take other arguments"),
    ("compute_environment", "a configuration of accelerate, which says where a run runs"),
    ("zero_optimization", "a configuration of DeepSpeed"),
    ("tuner_type", "a configuration of ms-swift, which has names and defaults of its own"),
    ("train_type", "a configuration of ms-swift, which has names and defaults of its own"),
)
#: What Hydra and OmegaConf put together: a list of other files, or a value from another place.
HYDRA = re.compile(r"(?m)^defaults:\s*\n\s*- |\$\{[a-z_]+[.:]|^\s*_target_:")
#: Keys that hold a mapping in files that are read into flat dataclasses.
MAPPINGS = re.compile(r"datasets?(_\w+)?|\w*(kwargs|config|args)|deepspeed|fsdp")
#: No settings nest so deep.
DEEP = 500
#: Sections of Unsloth Studio's files.
STUDIO = {"training", "lora", "logging"}


def read_config(
    file: str, text: str, language: str, is_recipe: bool = False
) -> tuple[list[Call], list[str]]:
    """(calls, notes) of a file of settings: one call, or none with a note that says why.

    `language`: yaml or json. `is_recipe`: a script reads it, whatever keys it has.

    Raises BadInput for what is neither.
    """
    settings, nested, quoted = _settings(file, text, language)
    declined = _declined(settings, nested)
    if declined:
        return [], [f"{declined}; it is not checked"]
    dialect = dialect_of(settings)
    if dialect is None and is_recipe and settings:
        dialect = dialects()["transformers"]
    if dialect is None:
        return [], ["no settings of a training were found"]
    if dialect.name in ("trl", "transformers"):
        schema = _schema_of_ones_own(file, text, settings, is_recipe)
        if schema:
            return [], [f"{schema}; it is not checked"]
    elif dialect.name == "llamafactory" and has_parser_of_its_own(file):
        own = dialects()["transformers"]
        dialect = dataclasses.replace(
            dialect, tool=own.tool, judged_by=own.judged_by, versions={}, names={}
        )
    if dialect.quoted_is_text:
        settings = {
            key: (Quoted(value) if key in quoted else value, line)
            for key, (value, line) in settings.items()
        }
    first = min((line for _, line in settings.values()), default=1)
    place = Place(file, None, first)
    call = call_of(dialect, settings, place, language, texts=[text])
    if dialect.name in ("trl", "transformers") and not is_recipe:
        call = _as_its_reader_may(call, settings)
    return [call], []


def _as_its_reader_may(call: Call, settings: dict) -> Call:
    """The call without what only a parser of the libraries makes of the file.

    A script that reads it with a class of its own has that class's names and defaults; one that
    takes keys of its own, or eval_steps one by one, may evaluate though no key says so.
    """
    readers = readers_of(call.file)
    written = call.written
    if readers.fields & set(settings) and not readers.has_parser:
        written = dataclasses.replace(written, origin="")
    is_told = {"eval_strategy", "evaluation_strategy"} & set(settings)
    if not is_told and (readers.reads_interval or not all(map(_is_of_a_library, settings))):
        elsewhere = (*written.set_elsewhere, "eval_strategy")
        written = dataclasses.replace(written, set_elsewhere=elsewhere)
    return dataclasses.replace(call, written=written)


def _is_of_a_library(key: str) -> bool:
    """Whether transformers, TRL or peft has a key of this name, or had one."""
    return is_training_argument(key) or was_taken("trl", key) or key in CARDS


def _declined(settings: dict, nested: set[str]) -> str:
    for key, whose in DECLINED:
        if key in settings or key in nested:
            return whose
    if STUDIO <= set(settings) and isinstance(settings["training"][0], dict):
        return "a configuration of Unsloth Studio, which has names of its own"
    return ""


def _is_hydras(file: str, text: str) -> bool:
    """Whether Hydra reads the file: a script has `cfg.training.name`, under names of its own."""
    if HYDRA.search(text):
        return True
    # A file in a folder of alternatives has no sign itself; the one that chooses it has.
    parents = Path(file).absolute().parents[:2]
    return any(_chooses_files(folder, stamp(folder)) for folder in parents)


@cache
def _chooses_files(folder: Path, _changed: float) -> bool:
    """Whether a file of the folder begins with Hydra's list of others."""
    for other in (*folder.glob("*.yaml"), *folder.glob("*.yml")):
        try:
            start = other.read_text(encoding="utf-8", errors="replace")[:5000]
        except OSError:
            continue
        if re.search(r"(?m)^defaults:\s*\n\s*- ", start):
            return True
    return False


def _schema_of_ones_own(file: str, text: str, settings: dict, is_recipe: bool) -> str:
    """What shows that the keys are a script's own words; "" where nothing does."""
    if _is_hydras(file, text):
        return "a configuration of Hydra, whose names are the script's own"
    # What is merged in stands in a section first, under any name.
    if is_recipe or "<<:" in text:
        return ""
    for key, (value, _) in settings.items():
        is_known = key in training_argument_names() or was_taken("trl", key)
        if isinstance(value, dict) and not is_known and not MAPPINGS.fullmatch(key):
            return f"{key} is a section of a script's own schema"
    return ""


def _settings(file: str, text: str, language: str) -> tuple[dict, set[str], set[str]]:
    """({key: (value, line)} of the top level, keys below it, keys whose value is in quotes)."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    plain = {}
    # libyaml ends the process where it nests too deep.
    if len(text) > DEEP and _depth(text) > DEEP:
        raise BadInput(f"{file}: expected YAML that a person wrote, nested less deep")
    try:
        if language == "json":
            plain = json.loads(text)
        node = yaml.compose(text.replace("\t", "  "), Loader=loader)
    except yaml.YAMLError as error:
        if "another document" in str(error):
            return {}, set(), set()  # several documents in one file: no tool's settings
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        if isinstance(plain, dict) and plain:  # JSON that is no YAML, as the halves of an emoji
            return {key: (value, 1) for key, value in plain.items()}, set(), set()
        problem = getattr(error, "problem", None) or "text that it cannot hold"
        raise BadInput(f"{file}{place}: expected YAML, got {problem}; mend it") from None
    except ValueError as error:
        raise BadInput(f"{file}: expected JSON, got {error}; mend it and check again") from None
    except RecursionError:
        raise BadInput(f"{file}: expected YAML that a person wrote, nested less deep") from None
    if not isinstance(node, yaml.MappingNode):
        return {}, set(), set()
    made = loader("")
    made.flatten_mapping(node)  # `<<: *base`
    construct = made.construct_object
    found = {}
    quoted = set()
    for key, value in node.value:
        try:
            name = construct(key, deep=True)
            written = construct(value, deep=True)
            if isinstance(plain, dict) and name in plain:
                written = plain[name]  # to YAML 1e-5 is a text, and to JSON a number
            found[name] = written, key.start_mark.line + 1
        except (yaml.YAMLError, ValueError, TypeError, RecursionError):
            continue  # a tag of a tool's own; an odd key; an alias that leads back
        if isinstance(value, yaml.ScalarNode) and value.style in ('"', "'"):
            quoted.add(name)
    found = {key: pair for key, pair in found.items() if isinstance(key, str)}
    return found, _keys_below(node), quoted


def _depth(text: str) -> int:
    """How deep brackets nest, or lines are indented."""
    deepest = 0
    depth = 0
    for sign in text:
        if sign in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif sign in "]}":
            depth = max(depth - 1, 0)
    indents = [len(line) - len(line.lstrip(" -")) for line in text.split("\n")]
    return max(deepest, *indents)


def _keys_below(node) -> set[str]:
    """The keys of all mappings inside a document."""
    found = set()
    seen = set()
    waiting = [node]
    while waiting:
        node = waiting.pop()
        # An alias may lead back to where it came from.
        if isinstance(node.value, str) or id(node) in seen:
            continue
        seen.add(id(node))
        for part in node.value:
            if isinstance(part, tuple):
                found.add(str(part[0].value))
                waiting.append(part[1])
            else:
                waiting.append(part)
    return found
