"""What a rule looks at: the settings of a run, and what is known of model, machine and data.

A rule that lacks what it needs stays silent: without the number of examples nothing is counted,
without a device nothing is said about it. torch is imported only where a model is to be looked at.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from hpkit.accounting import Accounting, account
from hpkit.adapters import ALL_LINEAR
from hpkit.capability import Machine
from hpkit.errors import BadInput
from hpkit.hyperparameters import CARDS
from hpkit.memory import Memory, Parameter, without_activations
from hpkit.preflight.arguments import (
    CHANGED_ELSEWHERE,
    COUNT_ALIKE,
    DEPRECATED,
    SUCCESSORS,
    under_new_names,
)
from hpkit.preflight.forms import LEAVE_OUT, Form
from hpkit.preflight.known_model import KnownModel
from hpkit.preflight.libraries import TRANSFORMERS_ARGUMENTS, takes, version_in_force
from hpkit.preflight.written import Surroundings, Written
from hpkit.recipe import FULL, Recipe
from hpkit.schedules import WITHOUT_WARMUP

#: What the number of updates depends on.
COUNT_ARGUMENTS = (
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "num_train_epochs",
    "max_steps",
)
#: What the learning rates depend on.
RATE_ARGUMENTS = ("learning_rate", "warmup_steps", "lr_scheduler_type", "lr_scheduler_kwargs")
#: Origins whose defaults are transformers', but for those of CHANGED_ELSEWHERE.
DEFAULTS_KNOWN = ("transformers", "trl", "llamafactory")
#: A script that asks for fewer updates tries whether it runs, and what a run would learn is no
#: concern of it.
TRIAL_UPDATES = 30
#: What peft, and LLaMA-Factory, take for all linear layers.
ALL_LAYERS = (ALL_LINEAR, "all")
#: Formats of weights whose bytes can be predicted.
WEIGHT_FORMATS = ("float32", "bfloat16")
#: What a rule may need beside arguments: each is a property of Plan, None where it is not known.
KNOWN_OF_RUN = ("model", "machine", "lengths", "counts", "memory", "head")
#: What a rule may need of the code around a call, likewise.
AROUND = frozenset(field.name for field in dataclasses.fields(Surroundings))


def _given_arguments(settings) -> dict:
    """The arguments with their values, as plain texts and numbers."""
    if isinstance(settings, dict):
        return {name: _as_transformers_takes(name, value) for name, value in settings.items()}
    given = {}
    for argument in dataclasses.fields(settings):
        value = getattr(settings, argument.name)
        # TrainingArguments keep strategies and the like as enums.
        value = getattr(value, "value", value)
        given[argument.name] = _as_transformers_takes(argument.name, value)
    return given


def _as_transformers_takes(name: str, value):
    """Updates written as 500.0 become a whole number; a share of the run stays as it is."""
    if name.endswith("_steps") and isinstance(value, float) and value >= 1 and value.is_integer():
        return int(value)
    return value


def _unknown_arguments(given: Mapping[str, object], live: bool, written: Written) -> set[str]:
    """The names whose value is not known; `*` among them stands for every one not given."""
    missing = {*written.unread, *written.set_elsewhere}
    # What is not told under an old name is not told under the new one either.
    for argument in list(missing):
        successor = (SUCCESSORS | DEPRECATED).get(argument)
        if successor is not None and successor.is_a_new_name:
            missing.add(successor.argument)
    if any(argument.startswith("*") for argument in missing) or written.is_trainer:
        missing.add("*")
    if live:
        return missing
    # A class that nobody knows has defaults that nobody knows, and Unsloth changes those of TRL.
    changes_defaults = written.unsloth and written.origin != "transformers"
    if written.origin not in DEFAULTS_KNOWN or changes_defaults:
        missing.add("*")
    if written.name not in TRANSFORMERS_ARGUMENTS:
        missing |= set(CHANGED_ELSEWHERE) - set(given)
        if written.name not in COUNT_ALIKE:
            missing.add("per_device_train_batch_size")
    return missing


@dataclass
class Plan:
    """Everything that rules look at; what takes long is worked out when first asked for.

    `settings`: a Recipe, live TrainingArguments or a dict. The other fields are as `preflight`
    takes them, the model and the machine looked up; of `examples` those of the text count where
    nobody gave others, and of `processes` the larger number. `is_live`: the dict was
    TrainingArguments, and has every field.

    Worked out at once: `given`, the arguments with their values, by the names of today;
    `renamed`, the old names of some of them; `missing`, those whose value is not known; `invalid`,
    those with a value that no Recipe takes; `recipe`, the rest, with transformers' defaults;
    `live`, whether the settings are an object; `ours`, whether a Recipe.
    """

    settings: object
    examples: int | None = None
    model: KnownModel | None = None
    machine: Machine | None = None
    lengths: list[int] | None = None
    processes: int = 1
    base: Recipe | None = None
    written: Written = field(default_factory=Written)
    is_live: bool = False

    def __post_init__(self):
        self.live = self.is_live or not isinstance(self.settings, dict)
        self.ours = isinstance(self.settings, Recipe)
        if self.ours:
            around = Surroundings(
                adapter=None if self.settings.lora_r is None else "lora_r",
                quantized="4 bits" if self.settings.load_in_4bit else None,
            )
            self.written = dataclasses.replace(self.written, form=Form("recipe"), around=around)
        self.examples = self.examples or self.written.around.examples
        self.processes = max(self.processes, self.written.around.processes or 1)
        given = _given_arguments(self.settings)
        # A field that nobody reads is no argument under any name.
        for idle in self.written.around.unread_fields or ():
            given.pop(idle, None)
        self.given, self.renamed = under_new_names(given)
        self.missing = _unknown_arguments(self.given, self.live, self.written)
        self.invalid = {}
        valid = {}
        for argument, value in self.given.items():
            if argument not in CARDS:
                continue
            if CARDS[argument].valid(value):
                valid[argument] = value
            else:
                self.invalid[argument] = value
        # Both halves at once are a finding, and no Recipe.
        if valid.get("bf16"):
            valid["fp16"] = False
        self.recipe = Recipe(**valid)

    def in_place_of_old_names(self, changes: Mapping[str, object]) -> dict:
        """The changes, with an argument that is written under an old name leaving it out."""
        found = {}
        for argument, value in changes.items():
            old = self.renamed.get(argument)
            if old and not self.live:
                found[old] = LEAVE_OUT
            if value is not LEAVE_OUT or not old or argument in self.settings:
                found[self.name_in_force(argument)] = value
        return found

    def name_in_force(self, argument: str) -> str:
        """The name that the version in force has for an argument; the old one of an old library."""
        version = version_in_force("transformers", self.written.pins)
        # What is written already stays, and argument-too-new speaks of it.
        if self.live or not version.pinned or argument in self.settings:
            return argument
        return self.old_name(argument) or argument

    def old_name(self, argument: str) -> str | None:
        """What the version in force calls an argument that it does not know yet."""
        version = version_in_force("transformers", self.written.pins)
        if takes("transformers", "TrainingArguments", argument, version):
            return None
        for old, successor in (SUCCESSORS | DEPRECATED).items():
            is_its_old_name = successor.is_a_new_name and successor.argument == argument
            if is_its_old_name and takes("transformers", "TrainingArguments", old, version):
                return old
        return None

    def changed(self, changes: Mapping[str, object]) -> "Plan":
        """The same run with a finding's changes made."""
        if self.ours:
            values = {}
            for argument, value in changes.items():
                if argument in CARDS:
                    values[argument] = CARDS[argument].default if value is LEAVE_OUT else value
            return dataclasses.replace(self, settings=self.settings.replace(**values))
        settings = self.given if self.live else self.settings
        settings = dict(settings)
        for argument, value in changes.items():
            settings.pop(self.renamed.get(argument), None)
            settings.pop(argument, None)
            if value is not LEAVE_OUT:
                settings[argument] = value
        # What was not told is told now.
        unread = tuple(name for name in self.written.unread if name not in changes)
        written = dataclasses.replace(self.written, unread=unread)
        return dataclasses.replace(self, settings=settings, written=written, is_live=self.live)

    def value(self, argument: str):
        """The argument's value, its default where it was not given."""
        return self.given.get(argument, getattr(self.recipe, argument, None))

    @property
    def named(self) -> list[str]:
        """The arguments as they stand in the call, known or not."""
        unread = [argument for argument in self.written.unread if not argument.startswith("*")]
        return [*self.settings, *sorted(unread)]

    def is_told(self, argument: str) -> bool:
        """Whether the call itself says an argument's value, so that no caller may set another."""
        return argument in self.given and argument not in self.written.optional

    def has(self, need: str) -> bool:
        """Whether `need` is known: of the run, of the code around it, an argument or a default."""
        if need in KNOWN_OF_RUN:
            return getattr(self, need) is not None
        if need in AROUND:
            return getattr(self.written.around, need) is not None
        if need in self.invalid:
            return False
        # Left out, eval_steps follows logging_steps.
        if need == "eval_steps" and need not in self.given and need not in self.missing:
            need = "logging_steps"
        if need in self.missing:
            return False
        return need in self.given or "*" not in self.missing

    @property
    def head(self) -> type | None:
        """The class that computes the loss, where the model is known by more than its size."""
        return self.model.head if self.model else None

    @property
    def trains_adapter(self) -> bool:
        """Whether an adapter is trained, or a part of the weights, and not the whole model."""
        frozen = bool(self.model and self.model.frozen)
        return self.written.around.adapter is not None or frozen

    @property
    def is_trial(self) -> bool:
        """Whether a script asks for so few updates that it can only be a trial."""
        return not self.live and 0 < self.recipe.max_steps < TRIAL_UPDATES

    @property
    def dtype(self) -> str:
        """The weights' format: the recipe's where hpkit loads the model, else the model's own."""
        if self.ours:
            return self.recipe.dtype
        if self.model and self.model.dtype:
            return self.model.dtype
        # Settings of other tools call something else dtype, and launchers keep copies.
        return self.written.around.weights or Recipe().dtype

    @cached_property
    def counts(self) -> Accounting | None:
        """What the run will do; its rates are right only where RATE_ARGUMENTS are known."""
        recipe = self.recipe
        if not self.has("max_steps"):
            return None
        # TRL's packing joins examples, nobody knows how many before it is done; of a recipe of ours
        # the examples are blocks.
        joins = self.given.get("packing") and self.written.origin != "transformers"
        if recipe.max_steps < 0 and (self._counted is None or joins):
            return None
        if not all(self.has(argument) for argument in RATE_ARGUMENTS):
            # A schedule without kwargs: what is not known must not stop the counting of the rest.
            # Rules about rates ask for RATE_ARGUMENTS and so never see it.
            plain = "constant_with_warmup"
            if recipe.lr_scheduler_type in WITHOUT_WARMUP:
                plain = "constant"
            recipe = recipe.replace(lr_scheduler_type=plain, lr_scheduler_kwargs=None)
        # Without a number of examples max_steps still counts updates; then no epoch ends.
        per_update = recipe.per_device_train_batch_size * recipe.gradient_accumulation_steps
        endless = recipe.max_steps * per_update * self.processes
        try:
            return account(recipe, self._counted or endless, processes=self.processes)
        except BadInput:  # a schedule that lacks its values; transformers will say so
            return None

    @property
    def _counted(self) -> int | None:
        """The examples of an epoch; None where nobody knows how they make updates."""
        if not self.examples or not all(self.has(argument) for argument in COUNT_ARGUMENTS):
            return None
        if not self.given.get("dataloader_drop_last"):
            return self.examples
        # The batch that is left over is not trained on.
        whole = self.recipe.per_device_train_batch_size * self.processes
        return self.examples // whole * whole or None

    @property
    def peak(self) -> float:
        """The highest rate that an update uses; where nobody can tell it, the one asked for."""
        if self.counts and self.counts.learning_rates:
            # No update uses the last one: it is where the schedule stands at the end.
            return max(self.counts.learning_rates[:-1], default=self.recipe.learning_rate)
        return self.recipe.learning_rate

    @property
    def length_argument(self) -> str:
        """The name of `max_length` in this run: TRL's, or this kit's."""
        return "max_length" if "max_length" in self.given else "max_seq_length"

    @property
    def max_length(self) -> int | None:
        """How many tokens of a document the run takes."""
        length = self.given.get(self.length_argument)
        if CARDS["max_seq_length"].valid(length):
            return length
        return None

    @property
    def context(self) -> int | None:
        """The longest sequence, in tokens, that the model's positions allow."""
        if self.model is None:
            return None
        config = getattr(self.model.source, "config", self.model.source)
        return getattr(config, "max_position_embeddings", None)

    @cached_property
    def parameters(self) -> list[Parameter]:
        """All tensors of the model, with the adapter of a Recipe."""
        return self.model.predictor.all_parameters(self.recipe if self.ours else FULL)

    @cached_property
    def whole_recipe(self) -> Recipe | None:
        """The recipe with the weights' format, the sequences' length, and the adapter that a script
        describes.

        None where it is not described whole: its rank, its layers, the format of what is frozen.
        """
        around = self.written.around
        if self.ours or not (self.trains_adapter or around.quantized):
            if self.dtype not in WEIGHT_FORMATS:
                return None
            recipe = self.recipe.replace(dtype=self.dtype, max_seq_length=self.max_length)
            # What a script calls lora_r is judged as what it makes of it.
            return recipe if self.ours else recipe.replace(lora_r=None, load_in_4bit=False)
        layers = around.target_modules
        frozen = around.frozen_weights or around.quantized
        if (around.adapter_rank or 0) < 1:
            return None
        if frozen not in ("4 bits", *WEIGHT_FORMATS, "float16"):
            return None
        if isinstance(layers, tuple):
            layers = ",".join(layers)
        elif layers in ALL_LAYERS:
            layers = ALL_LINEAR
        else:
            return None
        return self.recipe.replace(
            lora_r=around.adapter_rank,
            target_modules=layers,
            load_in_4bit=frozen == "4 bits",
            max_seq_length=self.max_length,
            # float16 has as many bytes. What is not in 4 bits is loaded as the file has it, by
            # transformers 5 and in 16 bits as a rule.
            dtype="float32" if frozen == "float32" else "bfloat16",
        )

    @cached_property
    def memory(self) -> Memory | None:
        """What the run holds, without activations where nobody knows them, or where they are
        recomputed. None where nobody knows what trains.
        """
        recipe = self.whole_recipe
        if self.model is None or recipe is None or not self.model.predictable:
            return None
        predictor = self.model.predictor
        try:
            held = without_activations(predictor.all_parameters(recipe), recipe)
        except BadInput:  # an optimizer whose states nobody predicts, a layer that there is not
            return None
        if self.value("activation_checkpointing"):
            return held
        try:
            return predictor.predict(recipe)
        except BadInput:  # a model whose activations nobody predicts
            return held
