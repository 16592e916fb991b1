"""`Recipe`: every hyperparameter of a fine-tune under transformers' own names.

`NOTES` and `STARTER` are recipes.
"""

import dataclasses
import typing
from dataclasses import dataclass
from pathlib import Path

from hpkit.errors import BadInput, did_you_mean
from hpkit.files import read_toml
from hpkit.hyperparameters import CARDS

#: What a LoRA adapter is made of, under the names of peft's LoraConfig; lora_r is its r.
ADAPTER = ("lora_r", "lora_alpha", "lora_dropout", "target_modules", "use_rslora")
#: In how many bits the frozen weights are loaded, under the names of transformers' config for it.
QUANTIZATION = ("load_in_4bit", "bnb_4bit_compute_dtype", "bnb_4bit_use_double_quant")
#: Hyperparameters that transformers' TrainingArguments do not know.
NOT_ARGUMENTS = ("max_seq_length", "packing", "dtype", *ADAPTER, *QUANTIZATION)


@dataclass(frozen=True)
class Recipe:
    """The hyperparameters of one run, checked when made.

    Defaults are the libraries'; CARDS says what each one does. NOT_ARGUMENTS are no
    TrainingArguments: they belong to the data (`max_seq_length`, in tokens, and `packing`), to
    loading the model, and to the adapter, which peft's LoraConfig describes. Raises BadInput for a
    value out of range or of the wrong type.
    """

    per_device_train_batch_size: int = CARDS["per_device_train_batch_size"].default
    gradient_accumulation_steps: int = CARDS["gradient_accumulation_steps"].default
    max_seq_length: int | None = CARDS["max_seq_length"].default
    packing: bool = CARDS["packing"].default
    num_train_epochs: float = CARDS["num_train_epochs"].default
    max_steps: int = CARDS["max_steps"].default
    learning_rate: float = CARDS["learning_rate"].default
    warmup_steps: float = CARDS["warmup_steps"].default
    lr_scheduler_type: str = CARDS["lr_scheduler_type"].default
    lr_scheduler_kwargs: dict | None = CARDS["lr_scheduler_kwargs"].default
    weight_decay: float = CARDS["weight_decay"].default
    max_grad_norm: float = CARDS["max_grad_norm"].default
    optim: str = CARDS["optim"].default
    adam_beta1: float = CARDS["adam_beta1"].default
    adam_beta2: float = CARDS["adam_beta2"].default
    adam_epsilon: float = CARDS["adam_epsilon"].default
    bf16: bool = CARDS["bf16"].default
    fp16: bool = CARDS["fp16"].default
    dtype: str = CARDS["dtype"].default
    lora_r: int | None = CARDS["lora_r"].default
    lora_alpha: float = CARDS["lora_alpha"].default
    lora_dropout: float = CARDS["lora_dropout"].default
    target_modules: str = CARDS["target_modules"].default
    use_rslora: bool = CARDS["use_rslora"].default
    load_in_4bit: bool = CARDS["load_in_4bit"].default
    bnb_4bit_compute_dtype: str = CARDS["bnb_4bit_compute_dtype"].default
    bnb_4bit_use_double_quant: bool = CARDS["bnb_4bit_use_double_quant"].default
    seed: int = CARDS["seed"].default
    logging_strategy: str = CARDS["logging_strategy"].default
    logging_steps: float = CARDS["logging_steps"].default
    eval_strategy: str = CARDS["eval_strategy"].default
    eval_steps: float | None = CARDS["eval_steps"].default
    save_strategy: str = CARDS["save_strategy"].default
    save_steps: float = CARDS["save_steps"].default
    save_total_limit: int | None = CARDS["save_total_limit"].default

    def __post_init__(self):
        for name, value in vars(self).items():
            card = CARDS[name]
            if card.valid(value):
                continue
            choices = card.expected.removeprefix("one of ").split(", ")
            hint = ""
            # Without a list of choices `expected` is a sentence, whose words are no guesses.
            if isinstance(value, str) and len(choices) > 1:
                hint = did_you_mean(value, choices)
            raise BadInput(f"{name}: expected {card.expected}, got {value!r}{hint}")
        if self.bf16 and self.fp16:
            raise BadInput(
                "bf16 and fp16 are both true: "
                "a run multiplies in one format; set one of them to false"
            )

    def replace(self, **changes) -> "Recipe":
        """A copy with some values changed. An unknown name raises BadInput with the nearest."""
        for name in changes:
            if name not in CARDS:
                raise BadInput(
                    f"unknown hyperparameter {name!r}{did_you_mean(name, CARDS)}; "
                    "`hpkit explain` lists all"
                )
        return dataclasses.replace(self, **changes)

    @property
    def in_force(self) -> "Recipe":
        """The same with everything that has no effect at its default: an alpha without a rank."""
        idle = []
        if self.lora_r is None:
            idle += ADAPTER
        if not self.load_in_4bit:
            idle += QUANTIZATION
        return self.replace(**{name: CARDS[name].default for name in idle})

    def training_arguments(self, out: str | Path, **settings):
        """transformers' TrainingArguments for this recipe, writing to `out`.

        `settings` go in as they are. Raises BadInput for an optimizer that transformers does not
        know, and for what else it refuses.
        """
        from transformers import TrainingArguments
        from transformers.training_args import OptimizerNames

        known = [name.value for name in OptimizerNames]
        if self.optim not in known:
            raise BadInput(
                f"optim: transformers has no optimizer {self.optim!r}"
                f"{did_you_mean(self.optim, known)}"
            )
        values = dataclasses.asdict(self) | settings
        for name in NOT_ARGUMENTS:
            del values[name]
        try:
            return TrainingArguments(
                output_dir=str(out),
                report_to="none",
                # Left on, the filter puts the last finite loss into the log in place of a NaN.
                logging_nan_inf_filter=False,
                **values,
            )
        except ValueError as error:
            raise BadInput(f"transformers refuses the recipe: {error}") from None


#: transformers' defaults: all weights train.
FULL = Recipe()
NOTES = Recipe(**{name: card.notes for name, card in CARDS.items()})
STARTER = Recipe(**{name: card.starter for name, card in CARDS.items()})
#: The starter's recipe with an adapter. The rate is the best of a pilot for rank 16 and alpha 32.
LORA = STARTER.replace(lora_r=16, learning_rate=3e-3)


_TRUTH_WORDS = {
    "true": True,
    "1": True,
    "yes": True,
    "false": False,
    "0": False,
    "no": False,
}


def parse_value(name: str, text: str):
    """The value of hyperparameter `name` written as text on a command line. Raises BadInput."""
    hint = typing.get_type_hints(Recipe)[name]
    kinds = typing.get_args(hint) or (hint,)  # `int | None` is two kinds, and `int` has no args
    if type(None) in kinds and text.lower() == "none":
        return None
    try:
        if bool in kinds:
            return _TRUTH_WORDS[text.lower()]
        if dict in kinds:
            import json

            return json.loads(text)
        if str in kinds:
            return text
        number = float(text)
        # Where both are taken, 20 means 20 updates and must not arrive as 20.0.
        if text.isdigit() or (int in kinds and number.is_integer()):
            return int(number)
        return number
    except (KeyError, ValueError, OverflowError):
        raise BadInput(f"{name}: expected {CARDS[name].expected}, got {text!r}") from None


def changed_hyperparameters(options) -> dict:
    """The hyperparameters that argparse's `options` give as texts. Raises BadInput."""
    changes = {}
    for name in CARDS:
        text = getattr(options, name)
        if text is not None:
            changes[name] = parse_value(name, text)
    return changes


def with_changes(base: Recipe, changes: dict) -> Recipe:
    """`base` with what the command line changes; where that gives the starter an adapter, with the
    adapter's rate too. Raises BadInput.
    """
    if base == STARTER and changes.get("lora_r") is not None:
        base = LORA
    return base.replace(**changes)


def load_recipe(name: str) -> Recipe:
    """`starter`, `notes`, `lora`, or a TOML file of hyperparameters. Raises BadInput.

    What the file leaves out has transformers' default.
    """
    built_in = {"starter": STARTER, "notes": NOTES, "lora": LORA}
    if name in built_in:
        return built_in[name]
    expected = f"expected starter, notes, lora or a TOML file{did_you_mean(name, built_in)}"
    return Recipe().replace(**read_toml(Path(name), "recipe", expected))
