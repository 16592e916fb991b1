"""What is wrong with a run before it runs: findings, each with the number that proves it and the change that mends it.

`preflight` looks at a recipe, at TrainingArguments, or at the arguments that `scripts` read from a file. A rule that
lacks what it needs stays silent: without the number of examples nothing is counted, without a device nothing is said
about it. It imports torch only where a model is to be looked at.
"""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from hpkit.accounting import WITHOUT_WARMUP, Accounting, account
from hpkit.capability import Machine, find_machine, probe
from hpkit.errors import BadInput
from hpkit.hyperparameters import CARDS
from hpkit.memory import Memory, parameters_of, predict_memory
from hpkit.model import read_config
from hpkit.preflight.arguments import CHANGED_ELSEWHERE, COUNT_ALIKE, TRANSFORMERS_ARGUMENTS
from hpkit.preflight.rules import RATES, RULES, Finding
from hpkit.recipe import Recipe

SEVERITIES = ("error", "warning", "hint")
_COUNTED = (
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "num_train_epochs",
    "max_steps",
)


def preflight(
    settings,
    examples: int | None = None,
    model=None,
    device: Machine | str | None = None,
    *,
    lengths: list[int] | None = None,
    processes: int = 1,
    base: Recipe | None = None,
    name: str = "TrainingArguments",
    unread: tuple[str, ...] = (),
    unseeded: str | None = None,
) -> list[Finding]:
    """The findings about a run, errors first.

    `settings`: a Recipe, live TrainingArguments, or a dict of arguments given to the callable `name`, of which `unread`
    could not be told. `examples`: training examples, or blocks of tokens. `model`: a live model, a transformers config,
    `starter`, a folder, a hub id or a size such as "7B". `device`: a Machine or a name of capability.MACHINES, or
    `here`. `lengths`: tokens of each training document. `base`: the recipe that `settings` was derived from. `unseeded`:
    what builds random weights before a seed is set, as `scripts` found it. Raises BadInput.
    """
    machine = find_machine(device) if isinstance(device, str) else device
    missing = _missing(settings, name, unread)
    plan = Plan(
        settings,
        _given(settings),
        missing,
        name,
        examples,
        processes,
        _look_at(model),
        machine,
        lengths,
        base,
        unseeded,
    )
    found = []
    for rule, needs, look in RULES:
        if all(plan.has(need) for need in needs):
            for severity, argument, message, fix, evidence in look(plan):
                found.append(Finding(rule, severity, message, evidence, fix, argument))
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


def preflight_callback(log=print, **known):
    """A Trainer callback that prints the findings when training starts: `Trainer(…, callbacks=[preflight_callback()])`.

    It takes examples, model and device from the Trainer; `known` goes to `preflight` and overrides them.
    """
    from transformers import TrainerCallback

    class Preflight(TrainerCallback):
        """Speaks once, in the process that logs."""

        def on_train_begin(self, args, state, control, model=None, train_dataloader=None, **kwargs):
            if not state.is_world_process_zero:
                return
            data = getattr(train_dataloader, "dataset", None)
            machine = probe(try_optimizer=False)
            if args.use_cpu and machine.device != "cpu":
                machine = None
            told = dict(
                model=model,
                examples=len(data) if hasattr(data, "__len__") else None,
                device=machine,
            )
            told |= dict(processes=args.world_size * max(args.n_gpu, 1))
            findings = preflight(args, **told | known)
            for finding in findings:
                log(str(finding))
            if not findings:
                log("preflight: nothing found")

    return Preflight()


# What is known of the run.


class _Model(NamedTuple):
    """`source` is what `memory` takes. `head`: the class that computes the loss. `dtype`: the weights' format."""

    source: object
    head: type | None
    dtype: str | None
    frozen: bool = False

    @property
    def predictable(self) -> bool:
        """A full fine-tune of a causal language model."""
        return not self.frozen and (
            self.head is None or self.head.__name__.endswith(("ForCausalLM", "LMHeadModel"))
        )


def _look_at(model) -> _Model | None:
    if model is None:
        return None
    if isinstance(model, str):
        try:
            parameters_of(model)
            return _Model(model, None, None)
        except BadInput:
            model = read_config(model)
    import torch
    import transformers

    if isinstance(model, torch.nn.Module):
        base = (
            model.get_base_model() if hasattr(model, "get_base_model") else model
        )  # what an adapter of peft wraps
        frozen = not all(weight.requires_grad for weight in model.parameters())
        return _Model(
            model, type(base), str(next(model.parameters()).dtype).removeprefix("torch."), frozen
        )
    head = (getattr(model, "architectures", None) or [""])[0]
    dtype = getattr(model, "dtype", None)
    return _Model(
        model,
        getattr(transformers, head, None),
        str(dtype).removeprefix("torch.") if dtype else None,
    )


def _given(settings) -> dict:
    """The arguments with their values, as plain texts and numbers."""
    if isinstance(settings, dict):
        return dict(settings)
    values = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    return {
        name: getattr(value, "value", value) for name, value in values.items()
    }  # transformers keeps enums


def _missing(settings, name: str, unread) -> set[str]:
    """The names whose value is not known; `*` among them stands for every one that was not given."""
    missing = set(unread)
    if any(argument.startswith("*") for argument in missing) or name.endswith(
        "Trainer"
    ):  # whose arguments stand elsewhere
        missing.add("*")
    if isinstance(settings, dict) and name not in TRANSFORMERS_ARGUMENTS:
        missing |= set(CHANGED_ELSEWHERE) - set(settings)
        if name not in COUNT_ALIKE:
            missing.add("per_device_train_batch_size")
    return missing


@dataclass
class Plan:
    """Everything that rules look at; what takes long is worked out when first asked for."""

    settings: object
    given: dict
    missing: set[str]
    name: str
    examples: int | None
    processes: int
    model: _Model | None
    machine: Machine | None
    lengths: list[int] | None
    base: Recipe | None
    unseeded: str | None

    def __post_init__(self):
        for argument, value in self.given.items():
            if (
                argument.endswith("_steps")
                and isinstance(value, float)
                and value > 1
                and value.is_integer()
            ):
                self.given[argument] = int(value)  # as transformers does
        self.live, self.ours = (
            not isinstance(self.settings, dict),
            isinstance(self.settings, Recipe),
        )
        # Both halves at once are a finding here, and no Recipe; so are values that no Recipe takes.
        self.invalid = {
            key: value
            for key, value in self.given.items()
            if key in CARDS and not CARDS[key].valid(value)
        }
        taken = {
            key: value
            for key, value in self.given.items()
            if key in CARDS and key not in self.invalid
        }
        self.recipe = Recipe(
            **taken | {"fp16": taken.get("fp16", False) and not taken.get("bf16", False)}
        )

    def value(self, argument: str):
        """The argument's value, its default where it was not given."""
        return self.given.get(argument, getattr(self.recipe, argument, None))

    @property
    def named(self) -> list[str]:
        """The arguments that stand in the call, known or not."""
        return [
            *self.given,
            *(argument for argument in sorted(self.missing) if not argument.startswith("*")),
        ]

    def has(self, need: str) -> bool:
        if need in ("model", "machine", "lengths", "counts", "memory", "head"):
            return getattr(self, need) is not None
        if need in self.invalid:
            return False
        if need == "eval_steps" and need not in {*self.given, *self.missing}:
            need = "logging_steps"  # it follows
        return need not in self.missing and (need in self.given or "*" not in self.missing)

    @property
    def head(self) -> type | None:
        return self.model.head if self.model else None

    @property
    def dtype(self) -> str:
        """The weights' format: the recipe's where hpkit loads the model, else the model's own."""
        own = None if self.ours or self.model is None else self.model.dtype
        return own or self.recipe.dtype

    @cached_property
    def counts(self) -> Accounting | None:
        if not all(self.has(argument) for argument in _COUNTED):
            return None
        if self.recipe.max_steps < 0 and not self.examples:
            return None
        recipe = self.recipe
        if not all(
            self.has(argument) for argument in RATES
        ):  # rules that use rates ask for these; others need the rest alone
            plain = (
                "constant" if recipe.lr_scheduler_type in WITHOUT_WARMUP else "constant_with_warmup"
            )
            recipe = recipe.replace(lr_scheduler_type=plain, lr_scheduler_kwargs=None)
        try:
            # Without a number of examples max_steps still counts updates; then no epoch ends.
            per_update = (
                recipe.per_device_train_batch_size
                * recipe.gradient_accumulation_steps
                * self.processes
            )
            return account(
                recipe, self.examples or recipe.max_steps * per_update, processes=self.processes
            )
        except BadInput:  # a schedule that lacks its values; transformers will say so
            return None

    @property
    def peak(self) -> float:
        """The highest learning rate that an update uses, where it can be counted, else the one asked for."""
        used = self.counts.learning_rates[:-1] if self.counts and self.counts.learning_rates else ()
        return max(used, default=self.recipe.learning_rate)

    @property
    def max_length(self) -> int | None:
        """How many tokens of a document the run takes: as TRL calls it, or as this kit does."""
        length = self.given.get(self.length_argument)
        return length if CARDS["max_seq_length"].valid(length) else None

    @property
    def context(self) -> int | None:
        """The longest sequence that the model's positions allow."""
        config = getattr(self.model.source, "config", self.model.source) if self.model else None
        return getattr(config, "max_position_embeddings", None)

    @property
    def length_argument(self) -> str:
        return "max_length" if "max_length" in self.given else "max_seq_length"

    @cached_property
    def parameters(self) -> list:
        return parameters_of(self.model.source)

    @cached_property
    def memory(self) -> Memory | None:
        """What a full fine-tune holds; without activations where they are recomputed or cannot be predicted."""
        try:
            if (
                self.model is None
                or not self.model.predictable
                or self.dtype not in ("float32", "bfloat16")
            ):
                return None
            recipe = self.recipe.replace(dtype=self.dtype)
            held = predict_memory(self.model.source, recipe, length=self.max_length)
        except BadInput:  # an optimizer whose states nobody predicts
            return None
        checkpointing = self.value("activation_checkpointing") or self.value(
            "gradient_checkpointing"
        )
        return held._replace(activations=0) if checkpointing else held
