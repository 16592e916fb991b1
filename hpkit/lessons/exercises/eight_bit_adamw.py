"""Exercises of notebook 09: 8-bit AdamW."""

from typing import NamedTuple

from hpkit.finetune.run import Run
from hpkit.lessons.exercise import BrokenRun, Exercise, usual_point

NOTEBOOK = "09_eight_bit_adamw"

#: Of 256 values each, as bitsandbytes cuts a weight of 1,000 x 1,000; the last is not full.
BLOCKS = 3907


def _wrong_bytes() -> dict[float, str]:
    return {
        2_000_000: (
            "Those are the codes of both averages. Each block has a scale besides, in 32 bits"
        ),
        1_000_000 + 4 * BLOCKS: "That is one average. Adam keeps two",
        8_000_000: "That is AdamW in 32 bits",
    }


class _EmbeddingShares(NamedTuple):
    """The share of a model's embeddings, 0 to 1, in the bytes of its 8-bit states and otherwise."""

    of_states: float
    of_parameters: float


def _embeddings_of_gpt2() -> _EmbeddingShares:
    from transformers import GPT2Config

    from hpkit.labs.blockwise import saving

    gpt2 = saving(GPT2Config())
    # The Trainer keeps the states of embeddings at 32 bits: two averages of four bytes.
    return _EmbeddingShares(
        of_states=8 * gpt2.in_embeddings / gpt2.bytes_8_bit,
        of_parameters=gpt2.in_embeddings / gpt2.parameters,
    )


def _wrong_shares() -> dict[float, str]:
    embeddings = _embeddings_of_gpt2()
    of_parameters = (
        "That is their share of the parameters. Their states stay at 32 bits, the others' do not"
    )
    return {
        embeddings.of_parameters: of_parameters,
        # Rounded, as one reads it off a table, it is further than one in a hundred from the above.
        0.32: of_parameters,
        embeddings.of_states / 4: (
            "That counts two bytes each. "
            "The Trainer keeps embeddings at 32 bits: two averages of four bytes"
        ),
    }


def _moves_its_weights(run: Run) -> str:
    fallen = run.eval_loss_before - run.eval_loss_after
    if fallen < 0.02:
        return f"The evaluation loss falls by {fallen:.4f} only: the updates are still too small"
    # A far higher rate makes the loss fall too, and leaves Adam's divisor as it is.
    if run.recipe.adam_epsilon > 1e-3:
        return (
            "It learns now, by making up for a divisor that is still wrong: "
            "what adam_epsilon adds outweighs every gradient"
        )
    return ""


EXERCISES = {
    "09-bytes": Exercise(
        notebook=NOTEBOOK,
        question="How many bytes of state does adamw_8bit hold beside a weight of 1,000 x 1,000?",
        answer=lambda: 2 * 1_000_000 + 2 * 4 * BLOCKS,
        why="A byte for each value and average, and four for each of 3,907 blocks and average",
        wrong=_wrong_bytes,
    ),
    "09-embeddings": Exercise(
        notebook=NOTEBOOK,
        question=(
            "Of all bytes that adamw_8bit holds for GPT-2 124M, what share belongs to its "
            "embeddings?"
        ),
        answer=lambda: _embeddings_of_gpt2().of_states,
        why="A third of the parameters at 8 bytes each, against two thirds at 2.03",
        wrong=_wrong_shares,
    ),
    "09-broken": BrokenRun(
        notebook=NOTEBOOK,
        question=(
            "This run hardly learns, though its rate and its gradients are as they should be. "
            "Change one argument."
        ),
        point=lambda: usual_point(max_steps=30, adam_epsilon=1.0),
        cured=_moves_its_weights,
        why=(
            "Adam divides by the size of the gradient again, "
            "and each update moves the weights by about the learning rate"
        ),
        cure={"adam_epsilon": 1e-8},
        wrong=({"optim": "adamw_torch_fused"}, {"adam_beta2": 0.99}),
    ),
}
