"""Exercises of notebook 01: the learning rate."""

from hpkit.finetune.run import Run
from hpkit.lessons.exercise import BrokenRun, Exercise, usual_point

NOTEBOOK = "01_learning_rate"


def _wrong_ways_to_its_own_size() -> dict[float, str]:
    return {
        0.02 / 1e-4: "That is the answer at 1e-4; asked was 1e-3",
        0.02 * 1e-3: (
            "That multiplies: it is how far a plain gradient of 0.02 would move it. "
            "Divide the way by the length of a step"
        ),
        1e-3 / 0.02: "That is upside down: one step in units of the weight's size",
    }


def _learns(run: Run) -> str:
    before = run.eval_loss_before
    after = run.eval_loss_after
    # By 0.02 nats runs differ that differ by their seed alone (notebook 06).
    if after < before - 0.02:
        return ""
    if abs(after - before) <= 0.02:
        return (
            f"The evaluation loss went from {before:.3f} to {after:.3f}: "
            "nothing is broken any more, and next to nothing is learnt"
        )
    return (
        f"The evaluation loss still rises, from {before:.3f} to {after:.3f}: "
        "the run forgets what the starter knew"
    )


EXERCISES = {
    "01-decades": Exercise(
        notebook=NOTEBOOK,
        question=(
            "You sweep from 1e-5 to 1e-1, both included, with two rates to every power of ten. "
            "How many runs with three seeds each?"
        ),
        answer=lambda: 9 * 3,
        why=(
            "Four powers of ten hold eight half steps, so nine rates, and each is trained three "
            "times"
        ),
        wrong=lambda: {
            8 * 3: "Eight half steps have nine ends: both 1e-5 and 1e-1 are trained",
            9: "Nine rates it is. Each is trained with three seeds",
            5 * 3: "That is one rate to every power of ten; asked were two",
        },
    ),
    "01-own-size": Exercise(
        notebook=NOTEBOOK,
        question=(
            "A weight of size 0.02 is moved by one rate in each update, always the same way, at a "
            "constant 1e-3. After how many updates has it moved by its own size?"
        ),
        answer=lambda: 0.02 / 1e-3,
        why=(
            "0.02 / 1e-3. At the notes' 1e-4 it would take ten times as many, and real weights "
            "turn round on the way"
        ),
        wrong=_wrong_ways_to_its_own_size,
    ),
    "01-broken": BrokenRun(
        notebook=NOTEBOOK,
        question=(
            "The evaluation loss of this run rises from its first update. Read its log, change one "
            "argument, and let it learn."
        ),
        point=lambda: usual_point(learning_rate=3e-2, max_steps=30, eval_steps=0.2),
        cured=_learns,
        why="At a rate that fits the model the same 30 updates lower the loss",
        cure={"learning_rate": 3e-4},
        wrong=({"max_grad_norm": 0.01}, {"warmup_steps": 0.5}, {"learning_rate": 1e-6}),
    ),
}
