"""Exercises of notebook 11: sequence length."""

from hpkit.finetune.run import Run
from hpkit.lessons.exercise import BrokenRun, Exercise, usual_point

NOTEBOOK = "11_sequence_length"


def _wrong_shares_of_padding() -> dict[float, str]:
    return {
        62.5: "That is the share of real tokens",
        60.0: (
            "That is padding held against real tokens: 600 to 1,000. "
            "The question is about all places"
        ),
        25.0: "That leaves the longest out: count all 4 x 400 places",
    }


def _wrong_megabytes() -> dict[float, str]:
    return {
        34 * 8: "That would be 8 examples of 512 tokens",
        34 / 4: "That is one example of 128 tokens",
        34: "8 x 128 are 1,024 tokens, twice as many as 512",
    }


def _reads_enough(run: Run) -> str:
    before = run.eval_loss_before
    after = run.eval_loss_after
    if after < before - 0.02:
        return ""
    first = next(entry["loss"] for entry in run.history if "loss" in entry)
    return (
        f"The evaluation loss goes from {before:.3f} to {after:.3f}, "
        f"and the first training loss, {first:.2f}, lies {first - before:.2f} above it: "
        "the examples still hold less than what is asked about"
    )


EXERCISES = {
    "11-share": Exercise(
        notebook=NOTEBOOK,
        question=(
            "Texts of 100, 200, 300 and 400 tokens, padded to the longest: what share of the "
            "places is padding, in percent?"
        ),
        answer=lambda: 100 * (1 - (100 + 200 + 300 + 400) / (4 * 400)),
        why="600 of 1,600 places mean nothing and are computed nevertheless",
        wrong=_wrong_shares_of_padding,
    ),
    "11-bytes": Exercise(
        notebook=NOTEBOOK,
        question="1 x 512 tokens keep 34 MB under sdpa: how many MB do 8 x 128 tokens keep?",
        answer=lambda: 34 * 8 * 128 / 512,
        why="Under sdpa the tokens of a micro-batch count, however they are spread over examples",
        wrong=_wrong_megabytes,
    ),
    "11-broken": BrokenRun(
        notebook=NOTEBOOK,
        question=(
            "The training loss lies far above the evaluation loss, which rises. Read the log, "
            "change one argument, and mend it."
        ),
        # A tune has about 170 characters: a piece of 16 holds next to nothing of it.
        point=lambda: usual_point(max_steps=40, max_seq_length=16, eval_steps=10),
        cured=_reads_enough,
        why="Now a piece holds most of a tune, and what is learned from it helps with whole ones",
        cure={"max_seq_length": 128},
        wrong=({"learning_rate": 1e-4}, {"per_device_train_batch_size": 32}, {"max_steps": 80}),
    ),
}
