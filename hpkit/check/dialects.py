"""The arguments of other tools' files and launch lines, under transformers' names.

`data/dialects.toml` has the tools; a person who extends it needs to look nowhere else.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from hpkit.check.adapter_facts import EMBEDDINGS, scale_of
from hpkit.check.calls import Call
from hpkit.check.pins import pins_of
from hpkit.check.tokenizers import USUAL_TOKENS
from hpkit.files import data_folder, read_toml
from hpkit.hyperparameters import ACCEPTED, CARDS, SCHEDULERS
from hpkit.preflight.arguments import DEPRECATED, SUCCESSORS
from hpkit.preflight.forms import Form
from hpkit.preflight.libraries import (
    known_classes,
    last_with,
    names_of,
    training_argument_names,
    was_taken,
)
from hpkit.preflight.written import Surroundings, Written

#: Fields of TRL's configs, today's and yesterday's, that no other tool has.
ONLY_IN_TRL = (
    "packing",
    "max_seq_length",
    "dataset_text_field",
    "dataset_kwargs",
    "max_prompt_length",
    "num_generations",
    "use_liger",
    "loss_type",
    "assistant_only_loss",
    "completion_only_loss",
    "precompute_ref_log_probs",
)
#: Keys by which alpha is divided by the root of the rank.
RSLORA = ("use_rslora", "peft_use_rslora")
#: What the alignment handbook's own classes took in the days of its dataset_mixer.
HANDBOOKS_OWN = frozenset({"torch_dtype", "use_flash_attention_2", "truncation_side"})
#: What the tools call the model.
MODEL_KEYS = ("base_model", "model_name_or_path")
#: Methods by preferences, as the tools name them (`rl: dpo`, `stage: dpo`), and TRL's config.
METHOD_KEYS = ("rl", "stage")
IMITATES = ("SFT", "PT", "PRETRAIN")
OTHER_LOSSES = (
    "pretraining_dataset",
    "reward_model",
    "process_reward_model",
    "use_onebitllms",
    "hatchery",
)
#: Keys of an adapter that do nothing unless use_peft turns it on.
IDLE_WITHOUT_PEFT = ("lora_r", "lora_alpha", "lora_target_modules", "lora_dropout")
#: Arguments of TRL's methods by which a file without another sign tells its method.
METHODS = {
    "GRPOConfig": ("num_generations", "max_completion_length", "reward_funcs"),
    "DPOConfig": ("beta", "precompute_ref_log_probs", "rpo_alpha"),
}
#: Arguments of other people's parsers that share names with TrainingArguments: diffusers' scripts,
#: examples and copies of them without a Trainer.
OTHER_PARSERS = {
    "train_batch_size",
    "max_train_steps",
    "lr_warmup_steps",
    "num_warmup_steps",
    "lr_scheduler",
    "with_tracking",
    "checkpointing_steps",
}
#: What a template leaves to be filled in.
PLACEHOLDER = re.compile(r"\$\{?\w|\{\{|^<.*>$|^\.\.\.$")
_SWITCH = ACCEPTED["switch"].expected
_TRUTH = {"true": True, "false": False}


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """One table of `data/dialects.toml`, which explains the fields."""

    name: str
    tool: str
    signs: list
    judged_by: str
    versions: dict
    quoted_is_text: bool
    adapter: list
    not_adapter: list
    adapter_by_default: str
    excludes: list
    names: dict

    def fits(self, keys: Collection[str]) -> bool:
        """Whether a file with these keys is this tool's."""
        if self.name in ("trl", "transformers") and OTHER_PARSERS & set(keys):
            return False
        if self.name == "trl" and not _may_be_trls(keys):
            return False
        if any(set(sign) <= set(keys) for sign in self.signs):
            return True
        # A script of one's own that reads TRL's config has its fields, and names data as it likes.
        if self.name != "trl" or sum(map(is_training_argument, keys)) < 3:
            return False
        return "per_device_train_batch_size" in keys and any(key in ONLY_IN_TRL for key in keys)

    def own_names(self, keys: Collection[str]) -> frozenset[str]:
        """The names that what reads these keys takes beside those of transformers and TRL."""
        found = set()
        if "dataset_mixer" in keys:
            found |= HANDBOOKS_OWN
        if self.judged_by not in ("transformers", "trl"):
            for class_name in known_classes(self.judged_by):
                found |= names_of(self.judged_by, class_name)
        return frozenset(found)


def _may_be_trls(keys: Collection[str]) -> bool:
    """Whether at most a tenth of the keys, or one, are strange to TRL.

    TRL's recipes, those of the alignment handbook and of open-r1 have up to 9 % of strange keys;
    where scripts with classes of their own read the file, 11 % and more were seen.
    """
    strange = [key for key in keys if not is_training_argument(key) and not was_taken("trl", key)]
    return len(strange) <= max(1, len(keys) / 10)


@cache
def dialects() -> dict[str, Dialect]:
    """The tools by name, in the order in which a file is held against them."""
    table = read_toml(data_folder() / "dialects.toml", "dialects")
    return {name: Dialect(name=name, **fields) for name, fields in table.items()}


def dialect_of(keys: Collection[str]) -> Dialect | None:
    """The tool whose file has these keys; None where no tool's has."""
    for dialect in dialects().values():
        if dialect.fits(keys):
            return dialect
    return None


class Quoted(str):
    """A text in quotation marks, which the tool leaves a text."""


@dataclass(frozen=True)
class Place:
    """Where settings stand: the file, the cell of a notebook, the first line."""

    file: str
    cell: int | None
    line: int


def call_of(
    dialect: Dialect,
    settings: Mapping[str, tuple[object, int]],
    place: Place,
    language: str,
    *,
    unread: Collection[str] = (),
    texts: Collection[str] = (),
    processes: int | None = None,
    class_name: str = "",
) -> Call:
    """The settings of a file or launch line as a Call.

    `settings`: the tool's own name -> (value, line). `unread`: names whose value is not told.
    `texts`: the file's, which may install something. `class_name`: TRL's config, where it is known.
    """
    told = _told(dialect, settings)
    untold = [dialect.names.get(name, name) for name in unread]
    facts = _facts(dialect, settings, processes)
    around = {name: value for name, (value, _) in facts.items()}
    pins, pinned_by = pins_of(place.file, texts)
    if dialect.versions and not set(dialect.versions) & set(pins):
        pinned_by = f"{dialect.tool} installs"
    pins = dialect.versions | pins
    written = Written(
        name=class_name or _class_name(dialect, settings),
        origin=dialect.judged_by,
        unread=(*untold, *told.untold),
        pins=pins,
        pinned_by=pinned_by,
        tool=dialect.tool,
        fields=dialect.own_names(settings),
        has_own_fields=True,
        foreign_words=tuple(told.foreign),
        form=Form(language, {theirs: ours for ours, theirs in dialect.names.items()}),
        around=Surroundings(**around),
    )
    return Call(
        file=place.file,
        cell=place.cell,
        line=place.line,
        arguments=told.arguments,
        lines=told.lines,
        written=written,
        places={name: (place.cell, line) for name, (_, line) in facts.items()},
    )


class _Told(NamedTuple):
    """Settings under transformers' names: values and lines by name, names whose value nobody can
    tell, and words that the tool has another name for.
    """

    arguments: dict[str, object]
    lines: dict[str, int]
    untold: list[str]
    foreign: list[str]


def _told(dialect: Dialect, settings: Mapping[str, tuple[object, int]]) -> _Told:
    told = _Told({}, {}, [], [])
    for word, (value, line) in settings.items():
        if value is None and word in CARDS | dialect.names:  # written, and left to the tool
            continue
        name = dialect.names.get(word, word)
        told.lines[name] = line
        if word in dialect.names.values():
            told.foreign.append(word)
            continue
        known = _typed(name, value)
        # axolotl has schedules of its own; `auto` is for the tool to decide.
        is_its_own = dialect.judged_by == "axolotl" and name == "lr_scheduler_type"
        if is_its_own and known not in SCHEDULERS:
            known = None
        if known is None and value is not None:
            told.untold.append(name)
        else:
            told.arguments[name] = known
    return told


def _class_name(dialect: Dialect, settings: Mapping[str, tuple[object, int]]) -> str:
    for key in METHOD_KEYS:
        method = str(settings.get(key, ("",))[0] or "").upper()
        if method and method not in IMITATES:
            return f"{method}Config"
    # Pre-training and models of rewards have rates of their own.
    is_partly_frozen = settings.get("finetuning_type", ("",))[0] == "freeze"
    if is_partly_frozen or any(settings.get(key, (None,))[0] for key in OTHER_LOSSES):
        return "OtherConfig"
    if dialect.judged_by != "trl":
        return "TrainingArguments"
    for name, signs in METHODS.items():
        if any(sign in settings for sign in signs):
            return name
    return "SFTConfig"


def _typed(name: str, value):
    """A value as the argument's kind: these tools read `2e-5` as a number, in quotes or not.

    None for a word that the tool decides, such as `auto`.
    """
    card = CARDS.get(name)
    if isinstance(value, str) and PLACEHOLDER.search(value):
        return None
    if card is None or not isinstance(value, str) or isinstance(value, Quoted):
        return value
    text = value.strip()
    if card.expected == _SWITCH:
        return _TRUTH.get(text.lower())
    if text.lower() in ("auto", "null", "none", "~", ""):
        return None
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        if card.valid(number):
            return number
    return value


def _facts(
    dialect: Dialect, settings: Mapping[str, tuple[object, int]], processes: int | None
) -> dict[str, tuple[object, int]]:
    """What the file says beside arguments: Surroundings by name, each with its line."""
    facts = {}
    for key in dialect.adapter:
        value, line = settings.get(key, (dialect.adapter_by_default or None, 0))
        says_no = value is None or value is False or str(value).lower() in dialect.not_adapter
        if key == "peft" and not isinstance(value, (dict, str)):
            continue
        if not says_no:
            facts["adapter"] = f"{key}: {value}", line
    together = [
        (first, second)
        for first, second in dialect.excludes
        if _is_set(settings, first) and _is_set(settings, second)
    ]
    if together:
        facts["together"] = tuple(together), settings[together[0][1]][1]
    for key in MODEL_KEYS:
        if isinstance(settings.get(key, (None,))[0], str):
            facts["model_name"] = settings[key]
    rank, alpha = (settings.get(key, (None,))[0] for key in ("lora_r", "lora_alpha"))
    if rank is None:
        rank = settings.get("lora_rank", (None,))[0]
    rank_line = settings.get("lora_r", settings.get("lora_rank", (None, 0)))[1]
    if type(rank) is int and "adapter" in facts:
        facts["adapter_rank"] = rank, rank_line
    by_root = any(settings.get(key, (None,))[0] for key in RSLORA)
    if isinstance(rank, int) and isinstance(alpha, (int, float)) and rank > 0:
        facts["adapter_scale"] = scale_of(alpha, rank, by_root), settings["lora_alpha"][1]
        facts["by_root"] = by_root or None, settings["lora_alpha"][1]
    for key in ("lora_target_modules", "lora_target"):
        targets = _targets(settings.get(key, (None,))[0])
        # LLaMA-Factory takes a text for a list with commas, and `all` by itself for all layers.
        if key == "lora_target" and isinstance(targets, str) and targets != "all":
            targets = tuple(name.strip() for name in targets.split(","))
        if targets and "adapter" in facts:
            facts["target_modules"] = targets, settings[key][1]
    tokens = _untrained_tokens(dialect, settings)
    if tokens and "adapter" in facts:
        facts["untrained_tokens"] = tokens
    bits = [key for key in ("load_in_4bit", "load_in_8bit") if settings.get(key, (0,))[0] is True]
    if bits and "adapter" not in facts and dialect.judged_by in ("trl", "axolotl"):
        facts["quantized"] = f"{bits[0][8]} bits", settings[bits[0]][1]
    idle = [key for key in IDLE_WITHOUT_PEFT if key in settings]
    if idle and "adapter" not in facts and dialect.judged_by == "trl":
        facts["idle_adapter"] = idle[0], settings[idle[0]][1]
    if processes:
        facts["processes"] = processes, 0
    return facts


def _targets(value) -> tuple[str, ...] | str | None:
    """The layers of an adapter as peft takes them: a list of names, or a pattern."""
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return tuple(value)
    return value if isinstance(value, str) and not PLACEHOLDER.search(value) else None


def _untrained_tokens(
    dialect: Dialect, settings: Mapping[str, tuple[object, int]]
) -> tuple[str, int] | None:
    """The key of axolotl that adds tokens, where no key says that their rows are trained.

    LLaMA-Factory trains the embedding by itself where it adds tokens.
    """
    trains = ("lora_modules_to_save", "peft_trainable_token_indices", "lora_target_modules")
    if dialect.judged_by != "axolotl" or any(_is_set(settings, key) for key in trains[:2]):
        return None
    targets = settings.get(trains[2], ("",))[0]
    if EMBEDDINGS.search(str(targets)):
        return None
    if _is_set(settings, "tokens"):
        return "tokens", settings["tokens"][1]
    special, line = settings.get("special_tokens", ({}, 0))
    added = special.get("additional_special_tokens") if isinstance(special, dict) else None
    if isinstance(added, list) and set(added) - USUAL_TOKENS:
        return "additional_special_tokens", line
    return None


def _is_set(settings: Mapping[str, tuple[object, int]], key: str) -> bool:
    value = settings.get(key, (None,))[0]
    is_left_open = isinstance(value, str) and PLACEHOLDER.search(value)
    return bool(value) and not is_left_open


def is_training_argument(name: str) -> bool:
    """Whether transformers takes an argument of this name, or took one."""
    return (
        name in training_argument_names()
        or name in SUCCESSORS
        or name in DEPRECATED
        or last_with("transformers", "TrainingArguments", name) is not None
    )
