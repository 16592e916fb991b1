"""What a rule looks at, what it says, and the register of all rules.

A rule that lacks what it needs stays silent: without the number of examples nothing is counted,
without a device nothing is said about it. torch is imported only where a model is to be looked at.
"""

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property

from hpkit.accounting import Accounting, account
from hpkit.capability import Machine
from hpkit.errors import BadInput
from hpkit.hyperparameters import CARDS
from hpkit.memory import (
    Memory,
    Parameter,
    parameters_of,
    predict_memory,
    without_activations,
)
from hpkit.model import read_config
from hpkit.preflight.arguments import CHANGED_ELSEWHERE, COUNT_ALIKE, TRANSFORMERS_ARGUMENTS
from hpkit.recipe import Recipe
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
#: Formats of weights whose bytes can be predicted.
WEIGHT_FORMATS = ("float32", "bfloat16")
#: What a rule may need beside arguments: each is a property of Plan, None where it is not known.
KNOWN_OF_RUN = ("model", "machine", "lengths", "counts", "memory", "head")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong.

    `message` is one sentence with the number, `fix` the change that mends it. `severity`: an error
    stops the run, or the run does not do what was asked; a warning costs quality or work; a hint is
    worth knowing. `evidence` holds the numbers by name, `argument` the hyperparameter it is about,
    where there is one. The register writes the name of the `rule`.
    """

    rule: str = ""
    severity: str
    message: str
    evidence: dict
    fix: str
    argument: str | None = None

    def __str__(self) -> str:
        return f"{self.severity} {self.rule}: {self.message}. To mend it: {self.fix}"


# The register.


@dataclass(frozen=True)
class Rule:
    """A function from a plan to its findings, and what the plan must know before it is asked."""

    name: str
    needs: tuple[str, ...]
    look: "Callable[[Plan], Iterable[Finding]]"

    def findings(self, plan: "Plan") -> list[Finding]:
        """What the rule says of `plan`: nothing where the plan lacks what it needs."""
        if not all(plan.has(need) for need in self.needs):
            return []
        return [dataclasses.replace(finding, rule=self.name) for finding in self.look(plan)]


#: Every rule by its name, in the order in which the files of `rules` are imported.
REGISTERED_RULES: dict[str, Rule] = {}


def rule(name: str, *needs: str):
    """Register a generator of findings under `name`; it is asked where the plan has all `needs`."""

    def register(look):
        if name in REGISTERED_RULES:
            raise ValueError(f"two rules have the name {name}")
        REGISTERED_RULES[name] = Rule(name, needs, look)
        return look

    return register


# What is known of a run, and the plan that holds it.


@dataclass(frozen=True)
class Written:
    """How the settings stand in a script, as `hpkit.check.scripts` finds it.

    `name`: the callable that they are given to. `unread`: arguments that the text does not tell, an
    unpacked mapping as `**name`, positional ones as `*args`. `unseeded`: what builds random weights
    before a seed is set.
    """

    name: str = "TrainingArguments"
    unread: tuple[str, ...] = ()
    unseeded: str | None = None


@dataclass(frozen=True)
class KnownModel:
    """A model as rules see it.

    `source` is what `hpkit.memory` takes. `head`: the class that computes the loss. `dtype`: the
    weights' format. `frozen`: some weights are not trained.
    """

    source: object
    head: type | None = None
    dtype: str | None = None
    frozen: bool = False

    @property
    def predictable(self) -> bool:
        """A full fine-tune of a causal language model."""
        if self.frozen:
            return False
        return self.head is None or self.head.__name__.endswith(("ForCausalLM", "LMHeadModel"))


def look_at_model(model) -> KnownModel | None:
    """What rules can know of a live model, a config, a name or a size. Raises BadInput."""
    if model is None:
        return None
    if isinstance(model, str):
        try:
            parameters_of(model)
            return KnownModel(model)
        except BadInput:  # no size such as "7B", so a name
            model = read_config(model)
    import torch

    if isinstance(model, torch.nn.Module):
        return _look_at_live_model(model)
    import transformers

    head = (getattr(model, "architectures", None) or [""])[0]
    dtype = getattr(model, "dtype", None)
    return KnownModel(
        model,
        head=getattr(transformers, head, None),
        dtype=_dtype_name(dtype) if dtype else None,
    )


def _look_at_live_model(model) -> KnownModel:
    head = model
    # An adapter of peft hides the class that computes the loss.
    if hasattr(model, "get_base_model"):
        head = model.get_base_model()
    return KnownModel(
        model,
        head=type(head),
        dtype=_dtype_name(next(model.parameters()).dtype),
        frozen=not all(weight.requires_grad for weight in model.parameters()),
    )


def _dtype_name(dtype) -> str:
    return str(dtype).removeprefix("torch.")


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
    if name.endswith("_steps") and isinstance(value, float) and value > 1 and value.is_integer():
        return int(value)
    return value


def _unknown_arguments(settings, written: Written) -> set[str]:
    """The names whose value is not known; `*` among them stands for every one not given."""
    missing = set(written.unread)
    # The arguments that train a Trainer stand in another call.
    elsewhere = written.name.endswith("Trainer")
    if elsewhere or any(argument.startswith("*") for argument in missing):
        missing.add("*")
    if isinstance(settings, dict) and written.name not in TRANSFORMERS_ARGUMENTS:
        missing |= set(CHANGED_ELSEWHERE) - set(settings)
        if written.name not in COUNT_ALIKE:
            missing.add("per_device_train_batch_size")
    return missing


@dataclass
class Plan:
    """Everything that rules look at; what takes long is worked out when first asked for.

    `settings`: a Recipe, live TrainingArguments or a dict. The other fields are as `preflight`
    takes them, the model and the machine looked up.

    Worked out at once: `given`, the arguments with their values; `missing`, those whose value is
    not known; `invalid`, those with a value that no Recipe takes; `recipe`, the rest, with
    transformers' defaults; `live`, whether the settings are an object; `ours`, whether a Recipe.
    """

    settings: object
    examples: int | None = None
    model: KnownModel | None = None
    machine: Machine | None = None
    lengths: list[int] | None = None
    processes: int = 1
    base: Recipe | None = None
    written: Written = field(default_factory=Written)

    def __post_init__(self):
        self.live = not isinstance(self.settings, dict)
        self.ours = isinstance(self.settings, Recipe)
        self.given = _given_arguments(self.settings)
        self.missing = _unknown_arguments(self.settings, self.written)
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

    def value(self, argument: str):
        """The argument's value, its default where it was not given."""
        return self.given.get(argument, getattr(self.recipe, argument, None))

    @property
    def named(self) -> list[str]:
        """The arguments that stand in the call, known or not."""
        unread = [argument for argument in sorted(self.missing) if not argument.startswith("*")]
        return [*self.given, *unread]

    def has(self, need: str) -> bool:
        """Whether `need` is known: one of KNOWN_OF_RUN, or an argument, given or by default."""
        if need in KNOWN_OF_RUN:
            return getattr(self, need) is not None
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
    def dtype(self) -> str:
        """The weights' format: the recipe's where hpkit loads the model, else the model's own."""
        if not self.ours and self.model and self.model.dtype:
            return self.model.dtype
        return self.recipe.dtype

    @cached_property
    def counts(self) -> Accounting | None:
        """What the run will do; its rates are right only where RATE_ARGUMENTS are known."""
        recipe = self.recipe
        if not all(self.has(argument) for argument in COUNT_ARGUMENTS):
            return None
        if recipe.max_steps < 0 and not self.examples:
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
            return account(recipe, self.examples or endless, processes=self.processes)
        except BadInput:  # a schedule that lacks its values; transformers will say so
            return None

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
        """The tensors that are trained."""
        return parameters_of(self.model.source)

    @cached_property
    def memory(self) -> Memory | None:
        """What a full fine-tune holds, without activations where nobody knows them, or where they
        are recomputed.
        """
        if self.model is None or self.dtype not in WEIGHT_FORMATS or not self.model.predictable:
            return None
        recipe = self.recipe.replace(dtype=self.dtype)
        try:
            held = without_activations(self.parameters, recipe)
        except BadInput:  # an optimizer whose states nobody predicts
            return None
        # transformers 5 renames gradient_checkpointing and still takes the old name.
        if self.value("activation_checkpointing") or self.value("gradient_checkpointing"):
            return held
        try:
            return predict_memory(self.model.source, recipe, length=self.max_length)
        except BadInput:  # a model whose activations nobody predicts
            return held
