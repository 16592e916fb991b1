"""The learning-rate range test: one short training whose rate rises, by the same factor every update, until it is too high.

Smith, Cyclical Learning Rates for Training Neural Networks (2015), arXiv 1506.01186, raised the rate along a line; raising
it by a factor gives every power of ten the same number of updates.
"""

from typing import NamedTuple

from hpkit.corpus.blocks import blocks_of
from hpkit.corpus.load import load_corpus
from hpkit.errors import BadInput
from hpkit.model import load_model
from hpkit.records.grids import Point


class RangeStep(NamedTuple):
    """One update: its learning `rate`, the held-out `loss` after it in nats per token, and how far a weight `moved` on average."""

    rate: float
    loss: float
    moved: float


def range_test(
    point: Point, low: float = 1e-6, high: float = 1.0, updates: int = 100, held_out: int = 8
) -> list[RangeStep]:
    """Train `point`'s model for `updates` updates while the rate rises from `low` to `high`; `low` = `high` keeps it where it is.

    In fp32 on the CPU, on one thread, by torch's AdamW. The rest is the recipe's: batch, sequence length, betas, epsilon,
    weight decay (of all weights), max_grad_norm and seed; its own rate, schedule and number of updates play no part. The
    loss is that of the same first `held_out` blocks of held-out text every time. Raises BadInput.
    """
    import torch
    from transformers import set_seed
    from transformers.utils import logging

    recipe = point.recipe
    if not 0 < low <= high or updates < 2:
        raise BadInput(
            f"range test: expected 0 < low <= high and two updates or more, got {low}, {high} and {updates}"
        )
    set_seed(recipe.seed)
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # of loading, in the midst of a notebook's output
    model, tokenizer = load_model(point.model)
    if bars:
        logging.enable_progress_bar()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    blocks, held = blocks_of(load_corpus(point.corpus), tokenizer, recipe.max_seq_length or 128)
    betas, size = (recipe.adam_beta1, recipe.adam_beta2), recipe.per_device_train_batch_size
    optimizer = torch.optim.AdamW(
        weights, low, betas, recipe.adam_epsilon, recipe.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.ExponentialLR(
        optimizer, (high / low) ** (1 / (updates - 1))
    )
    held = _batch(held[:held_out])
    order = [
        number
        for _ in range(updates * size // len(blocks) + 1)
        for number in torch.randperm(len(blocks)).tolist()
    ]
    steps, threads = [], torch.get_num_threads()
    torch.set_num_threads(
        1
    )  # more would stall one another beside a running widget, and round differently
    try:
        for update in range(updates):
            model(
                **_batch([blocks[number] for number in order[update * size : (update + 1) * size]])
            ).loss.backward()
            if recipe.max_grad_norm:
                torch.nn.utils.clip_grad_norm_(weights, recipe.max_grad_norm)
            rate, before = (
                optimizer.param_groups[0]["lr"],
                [weight.detach().clone() for weight in weights],
            )
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            with torch.no_grad():
                moved = sum(
                    (weight - old).abs().sum().item() for weight, old in zip(weights, before)
                )
                steps.append(
                    RangeStep(
                        rate,
                        model(**held).loss.item(),
                        moved / sum(weight.numel() for weight in weights),
                    )
                )
    finally:
        torch.set_num_threads(threads)
    return steps


def suggested_rate(steps: list[RangeStep]) -> float:
    """A tenth of the rate at which the loss was lowest: where it has turned, the rate was too high some updates before."""
    return min(steps, key=lambda step: step.loss).rate / 10


def _batch(blocks: list[dict]) -> dict:
    import torch

    return {name: torch.tensor([block[name] for block in blocks]) for name in blocks[0]}
