"""Which number format everything has in a live training.

Parameters, gradients, optimizer states, activations. Nothing is looked up: forward hooks see what
each module returns, and the rest is read off the tensors after an update.
"""

from collections import Counter
from typing import NamedTuple

from hpkit.finetune.training import trained
from hpkit.labs.formats import FORMATS
from hpkit.measured_memory import saved_for_backward
from hpkit.recipe import Recipe

#: bf16 for torch's bfloat16, and so on.
_SHORT_NAMES = {format.dtype: name for name, format in FORMATS.items() if format.dtype}


class LiveTypes(NamedTuple):
    """Elements by number format, such as `{"bf16": 1781952}`.

    `activations` has one such table for each kind of module: the class of what returned the tensor,
    such as `Linear`; `loss` is the loss. `saved` are the tensors that autograd keeps for the
    backward pass, the weights themselves left out. Shared states count once.
    """

    parameters: dict[str, int]
    gradients: dict[str, int]
    states: dict[str, int]
    activations: dict[str, dict[str, int]]
    saved: dict[str, int]


def live_types(recipe: Recipe, model: str = "starter", corpus: str = "airdsAirs") -> LiveTypes:
    """Train one update by the recipe, then watch the forward and backward pass of the next.

    The pass is the Trainer's own `training_step`, autocast and all. Raises BadInput.
    """
    # An optimizer has no states before its first update.
    trainer = trained(recipe.replace(max_steps=1, warmup_steps=0), model, corpus)
    live = trainer.model
    batch = next(iter(trainer.get_train_dataloader()))
    activations = {}

    def count_returned(module, arguments, result):
        for kind, tensor in _returned_floats(type(module).__name__, result):
            counts = activations.setdefault(kind, Counter())
            counts[_short_name(tensor.dtype)] += tensor.numel()

    live.zero_grad()
    hooks = [module.register_forward_hook(count_returned) for module in live.modules()]
    try:
        with saved_for_backward(live) as saved:
            trainer.training_step(trainer.model_wrapped, batch)
    finally:
        for hook in hooks:
            hook.remove()
    gradients = [weight.grad for weight in live.parameters() if weight.grad is not None]
    return LiveTypes(
        parameters=_elements_by_format(live.parameters()),
        gradients=_elements_by_format(gradients),
        states=_elements_by_format(_state_tensors(trainer.optimizer.state)),
        activations=activations,
        saved=_saved_by_format(saved.values()),
    )


def _short_name(dtype) -> str:
    name = str(dtype).removeprefix("torch.")
    return _SHORT_NAMES.get(name, name)


def _elements_by_format(tensors) -> dict[str, int]:
    # bitsandbytes' states share their code books: by address, each counts once.
    by_address = {tensor.data_ptr(): tensor for tensor in tensors}
    counts = Counter()
    for tensor in by_address.values():
        counts[_short_name(tensor.dtype)] += tensor.numel()
    return dict(counts)


def _saved_by_format(saved) -> dict[str, int]:
    counts = Counter()
    for kept in saved:
        if kept.dtype.is_floating_point:  # token ids and masks are kept, too
            counts[_short_name(kept.dtype)] += kept.bytes // kept.dtype.itemsize
    return dict(counts)


def _state_tensors(state: dict):
    """What an optimizer holds; single numbers, such as step counters, left out."""
    import torch

    for entry in state.values():
        values = entry.values() if isinstance(entry, dict) else [entry]
        for value in values:
            if isinstance(value, torch.Tensor) and value.numel() > 1:
                yield value


def _returned_floats(kind: str, result):
    """(kind, tensor) of each floating-point tensor that a module returns."""
    import torch

    if isinstance(result, torch.Tensor):
        result = (result,)
    elif hasattr(result, "items"):  # a model's output: its loss is a kind of its own
        if result.get("loss") is not None:
            yield "loss", result["loss"]
        result = (result.get("logits"),)
        kind = "logits"
    if not isinstance(result, (tuple, list)):
        return
    for tensor in result:
        if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
            yield kind, tensor


def types_table(columns: dict[str, LiveTypes]) -> str:
    """Several set-ups side by side as text.

    A row for each thing, in each column its formats, the one with the most elements first.
    """
    rows = [["", *columns]]
    for name in ("parameters", "gradients", "states", "saved"):
        rows.append([name, *(_shares(getattr(live, name)) for live in columns.values())])
    kinds = {}  # a set would not keep the order in which the modules return
    for live in columns.values():
        kinds |= dict.fromkeys(live.activations)
    for kind in kinds:
        name = kind if kind in ("loss", "logits") else f"out of {kind}"
        rows.append([name, *(_shares(live.activations.get(kind, {})) for live in columns.values())])
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _shares(counts: dict[str, int]) -> str:
    """`bf16`, or where there are several formats `uint8 97%, fp32 3%`."""
    whole = sum(counts.values())
    shares = sorted(counts.items(), key=lambda item: -item[1])
    if len(shares) == 1:
        return shares[0][0]
    return ", ".join(f"{name} {count / whole:.0%}" for name, count in shares)
