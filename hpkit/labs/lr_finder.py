"""The learning-rate range test: a short training whose rate rises until it is too high.

It rises by the same factor every update. Smith, Cyclical Learning Rates for Training Neural
Networks (2015), arXiv 1506.01186, raised it along a line; raising it by a factor gives every power
of ten the same number of updates.
"""

from typing import NamedTuple

from hpkit.corpus.blocks import blocks_of
from hpkit.corpus.load import load_corpus
from hpkit.errors import BadInput
from hpkit.model import load_model, quiet_transformers
from hpkit.recipe import Recipe
from hpkit.records.grids import Point


class RangeStep(NamedTuple):
    """One update: its learning `rate` and what it did.

    `loss` is the held-out one after it, in nats per token; `moved` is how far a weight went on
    average.
    """

    rate: float
    loss: float
    moved: float


def range_test(
    point: Point, low: float = 1e-6, high: float = 1.0, updates: int = 100, held_out: int = 8
) -> list[RangeStep]:
    """Train `point`'s model for `updates` updates while the rate rises from `low` to `high`.

    `low` = `high` keeps it where it is. In fp32 on the CPU, on one thread, by torch's AdamW. The
    rest is the recipe's: batch, sequence length, betas, epsilon, weight decay (of all weights),
    max_grad_norm and seed; its own rate, schedule and number of updates play no part. The loss is
    that of the same first `held_out` blocks of held-out text every time. Raises BadInput.
    """
    import torch
    from transformers import set_seed

    from hpkit.labs.gradients import stacked

    recipe = point.recipe
    if not 0 < low <= high or updates < 2:
        raise BadInput(
            "range test: expected 0 < low <= high and two updates or more, "
            f"got {low}, {high} and {updates}"
        )
    set_seed(recipe.seed)  # of a fresh model's weights, and of the order of the blocks
    with quiet_transformers():  # the bar of loading, in the midst of a notebook's output
        model, tokenizer = load_model(point.model)
    blocks, held = blocks_of(load_corpus(point.corpus), tokenizer, recipe.max_seq_length or 128)
    held = stacked(held[:held_out])
    optimizer = _adamw(model, recipe, low)
    factor = (high / low) ** (1 / (updates - 1))
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, factor)
    steps = []
    threads = torch.get_num_threads()
    # More threads would stall one another beside a running widget, and round differently.
    torch.set_num_threads(1)
    try:
        for batch in _shuffled_batches(blocks, recipe.per_device_train_batch_size, updates):
            rate = optimizer.param_groups[0]["lr"]
            moved = _train_on(model, stacked(batch), optimizer, recipe.max_grad_norm)
            schedule.step()
            with torch.no_grad():
                loss = model(**held).loss.item()
            steps.append(RangeStep(rate, loss, moved))
    finally:
        torch.set_num_threads(threads)
    return steps


def suggested_rate(steps: list[RangeStep]) -> float:
    """A tenth of the rate at which the loss was lowest.

    Where the loss has turned, the rate was too high some updates before.
    """
    return min(steps, key=lambda step: step.loss).rate / 10


def _adamw(model, recipe: Recipe, rate: float):
    import torch

    return torch.optim.AdamW(
        [weight for weight in model.parameters() if weight.requires_grad],
        lr=rate,
        betas=(recipe.adam_beta1, recipe.adam_beta2),
        eps=recipe.adam_epsilon,
        weight_decay=recipe.weight_decay,
        fused=True,
    )


def _shuffled_batches(blocks: list[dict], size: int, count: int) -> list[list[dict]]:
    """`count` batches of `size` blocks; no block comes again before all have come."""
    import torch

    order = []
    while len(order) < count * size:
        order += torch.randperm(len(blocks)).tolist()
    batches = []
    for first in range(0, count * size, size):
        batches.append([blocks[number] for number in order[first : first + size]])
    return batches


def _train_on(model, batch: dict, optimizer, max_grad_norm: float) -> float:
    """Make one update; how far it moved a weight, on average."""
    import torch

    weights = optimizer.param_groups[0]["params"]
    model(**batch).loss.backward()
    if max_grad_norm:
        torch.nn.utils.clip_grad_norm_(weights, max_grad_norm)
    before = [weight.detach().clone() for weight in weights]
    optimizer.step()
    optimizer.zero_grad()
    moved = 0
    with torch.no_grad():
        for weight, old in zip(weights, before):
            moved += (weight - old).abs().sum().item()
    return moved / sum(weight.numel() for weight in weights)
