"""A rule about the layers that an adapter is put on, held against those that the model has."""

import re
from collections.abc import Iterator, Sequence

from hpkit.errors import BadInput
from hpkit.memory import Parameter
from hpkit.preflight.plan import ALL_LAYERS, Plan
from hpkit.preflight.register import Finding, rule


@rule(
    "target-modules-missed",
    "target_modules",
    "model",
    notebook="12",
    example="""\
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

lora = LoraConfig(r=16, target_modules=["q_proj", "v_proj", "query_key_value"])
model = get_peft_model(AutoModelForCausalLM.from_pretrained("org/m"), lora)
trainer = Trainer(model=model, args=TrainingArguments("out"), train_dataset=rows)
""",
    options="--model starter",
)
def target_modules_missed(plan: Plan) -> Iterator[Finding]:
    """An adapter is to be put on layers that the model does not have.

    Where no name of target_modules is a layer's, peft stops. Of a list in which some are, it passes
    over the others without a word, and the adapter is smaller than was asked for. A text that is no
    list is a pattern, which has to match a layer's whole name.
    """
    targets = plan.written.around.target_modules
    if targets in ALL_LAYERS or plan.model.frozen or isinstance(plan.model.source, str):
        return
    try:
        parameters = plan.parameters
    except BadInput:  # a model that nobody can build from its config
        return
    names = _layer_names(parameters)
    # What peft does with experts that are one tensor, it decides model by model.
    if any("experts" in name for name in names):
        return
    missed = _missed(targets, names)
    if not missed:
        return
    matches_none = isinstance(targets, str) or len(missed) == len(targets)
    message = f"of {len(targets)} target_modules the model lacks {', '.join(missed)}: passed over"
    if matches_none:
        message = f"target_modules {', '.join(missed)}: 0 layers of the model fit, and peft stops"
    yield Finding(
        severity="error" if matches_none else "warning",
        argument="target_modules",
        message=message,
        advice=f"the model's layers are {', '.join(_matrices(parameters))}; all-linear takes all",
        evidence={"missed": missed},
    )


def _layer_names(parameters: Sequence[Parameter]) -> set[str]:
    """The names of all layers that have weights, and of the output layer, which may be tied."""
    return {parameter.name.rpartition(".")[0] for parameter in parameters} | {"lm_head"}


def _missed(targets: Sequence[str] | str, names: set[str]) -> list[str]:
    """The targets that fit no layer, by peft's way of comparing them."""
    if isinstance(targets, str):
        try:
            fits = any(re.fullmatch(targets, name) for name in names)
        except re.error:
            fits = False
        return [] if fits else [targets]
    return [
        target
        for target in targets
        if not any(name == target or name.endswith("." + target) for name in names)
    ]


def _matrices(parameters: Sequence[Parameter]) -> list[str]:
    """What the linear layers of the blocks are called, each name once."""
    found = {}
    for parameter in parameters:
        layer = parameter.name.rpartition(".")[0]
        is_in_block = re.search(r"\.\d+\.", layer)
        if is_in_block and len(parameter.shape) == 2:
            found[layer.rpartition(".")[2]] = None
    return list(found)
