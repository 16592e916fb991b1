"""Exercises of notebook 10: log, evaluate, save."""

from hpkit.accounting import account
from hpkit.finetune.run import Run
from hpkit.lessons.exercise import BrokenRun, Exercise, usual_point
from hpkit.recipe import NOTES

NOTEBOOK = "10_log_eval_save"


def _wrong_numbers_of_losses() -> dict[float, str]:
    return {
        # 408 / 10, rounded up.
        41: "The last update is evaluated and saved whatever the cadence. It is not logged",
        account(NOTES, 52_000).updates: "That is every update",
        52_000 / 8 * 2 / 10: "That counts batches of 8. An update waits for 32 of them",
    }


def _wrong_numbers_of_checkpoints() -> dict[float, str]:
    return {
        8: "The last update is saved too, though 408 is no multiple of 50",
        1: "That is the default, save_steps=500, beyond the run: only its end is saved",
        2: "Two would stay with save_total_limit=2. It was not set",
    }


def _can_be_watched(run: Run) -> str:
    losses = sum("loss" in entry for entry in run.history)
    # The evaluation before the first update shows nothing of how the run went.
    evaluations = sum("eval_loss" in entry and entry["step"] > 0 for entry in run.history)
    if min(losses, evaluations) >= 4:
        return ""
    return (
        f"{losses} training losses and {evaluations} evaluations are in the log: "
        "to see both fall takes four of each"
    )


EXERCISES = {
    "10-losses": Exercise(
        notebook=NOTEBOOK,
        question=(
            "The notes' recipe on 52,000 examples, with logging_steps=10: how many training losses "
            "are in the log?"
        ),
        answer=lambda: len(account(NOTES.replace(logging_steps=10), 52_000).log_at),
        why="408 updates, and every tenth is logged. The last eight are in no training loss",
        wrong=_wrong_numbers_of_losses,
    ),
    "10-checkpoints": Exercise(
        notebook=NOTEBOOK,
        question=(
            "The same run with save_steps=50 and no save_total_limit: how many checkpoints lie on "
            "the disk at its end?"
        ),
        answer=lambda: len(account(NOTES.replace(save_steps=50), 52_000).checkpoints),
        why="At 50, 100, … 400, and one more after the last update, 408",
        wrong=_wrong_numbers_of_checkpoints,
    ),
    "10-broken": BrokenRun(
        notebook=NOTEBOOK,
        question=(
            "Nobody can say how this run went. Change one argument, so that training loss and "
            "evaluation loss can be watched."
        ),
        # Where eval_steps is none, the evaluation follows logging_steps.
        point=lambda: usual_point(max_steps=30, logging_steps=2000, eval_steps=None),
        cured=_can_be_watched,
        why="The training loss is logged, and the evaluation follows the same steps",
        cure={"logging_steps": 5},
        wrong=({"eval_steps": 5}, {"logging_strategy": "epoch"}),
    ),
}
