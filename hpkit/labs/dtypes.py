"""Which number format everything has in a live training: parameters, gradients, optimizer states, activations.

Nothing is looked up: forward hooks see what each module returns, and the rest is read off the tensors after an update.
"""

from collections import Counter
from typing import NamedTuple

from hpkit.finetune.training import trained
from hpkit.labs.formats import FORMATS
from hpkit.recipe import Recipe

_SHORT = {format.dtype: name for name, format in FORMATS.items() if format.dtype}


class LiveTypes(NamedTuple):
    """Elements by number format, such as `{"bf16": 1781952}`; `activations` has one such table for each kind of module.

    A kind is the class of what returned the tensor, such as `Linear`; `loss` is the loss. `saved` are the tensors that
    autograd keeps for the backward pass, the weights themselves left out. Shared states count once.
    """

    parameters: dict[str, int]
    gradients: dict[str, int]
    states: dict[str, int]
    activations: dict[str, dict[str, int]]
    saved: dict[str, int]


def live_types(recipe: Recipe, model: str = "starter", corpus: str = "airdsAirs") -> LiveTypes:
    """Train one update by the recipe, then watch the forward and backward pass of the next. Raises BadInput.

    The pass is the Trainer's own `training_step`, autocast and all.
    """
    trainer = trained(recipe.replace(max_steps=1, warmup_steps=0), model, corpus)
    live, batch = trainer.model, next(iter(trainer.get_train_dataloader()))
    activations, saved, types = {}, {}, {}
    weights = {weight.untyped_storage().data_ptr() for weight in live.parameters()}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if tensor.is_floating_point() and storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage  # held, so that its address stays its own
            types[storage.data_ptr()] = (
                _name(tensor.dtype),
                storage.nbytes() // tensor.element_size(),
            )
        return tensor

    def returned(module, arguments, result):
        for kind, tensor in _floats(type(module).__name__, result):
            activations.setdefault(kind, Counter())[_name(tensor.dtype)] += tensor.numel()

    import torch

    live.zero_grad()
    hooks = [module.register_forward_hook(returned) for module in live.modules()]
    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            trainer.training_step(trainer.model_wrapped, batch)
    finally:
        for hook in hooks:
            hook.remove()
    kept = Counter()
    for name, elements in types.values():
        kept[name] += elements
    gradients = [weight.grad for weight in live.parameters() if weight.grad is not None]
    return LiveTypes(
        _count(live.parameters()),
        _count(gradients),
        _count(_tensors(trainer.optimizer.state)),
        activations,
        dict(kept),
    )


def _name(dtype) -> str:
    words = str(dtype).removeprefix("torch.")
    return _SHORT.get(words, words)


def _count(tensors) -> dict[str, int]:
    counts = Counter()
    for tensor in {tensor.data_ptr(): tensor for tensor in tensors}.values():
        counts[_name(tensor.dtype)] += tensor.numel()
    return dict(counts)


def _tensors(state: dict):
    """What an optimizer holds; single numbers, such as step counters, left out."""
    import torch

    for entry in state.values():
        values = entry.values() if isinstance(entry, dict) else [entry]
        yield from (
            value for value in values if isinstance(value, torch.Tensor) and value.numel() > 1
        )


def _floats(kind: str, result):
    """(kind, tensor) of each floating-point tensor that a module returns."""
    import torch

    if isinstance(result, torch.Tensor):
        result = (result,)
    elif hasattr(result, "items"):  # a model's output: its loss is a kind of its own
        if result.get("loss") is not None:
            yield "loss", result["loss"]
        result = (result.get("logits"),)
        kind = "logits"
    for tensor in result if isinstance(result, (tuple, list)) else ():
        if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
            yield kind, tensor


def types_table(columns: dict[str, LiveTypes]) -> str:
    """Several set-ups side by side as text: a row for each thing, its formats with the most elements first."""
    names = ("parameters", "gradients", "states", "saved")
    kinds = dict.fromkeys(kind for live in columns.values() for kind in live.activations)
    rows = [["", *columns]]
    rows += [[name, *(_shown(getattr(live, name)) for live in columns.values())] for name in names]
    for kind in kinds:
        words = kind if kind in ("loss", "logits") else f"out of {kind}"
        rows.append([words, *(_shown(live.activations.get(kind, {})) for live in columns.values())])
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows
    )


def _shown(counts: dict[str, int]) -> str:
    whole = sum(counts.values())
    shares = sorted(counts.items(), key=lambda item: -item[1])
    if len(shares) == 1:
        return shares[0][0]
    return ", ".join(f"{name} {count / whole:.0%}" for name, count in shares)
