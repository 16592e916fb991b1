"""Exercises of notebook 02: warmup and schedules."""

from hpkit.accounting import account
from hpkit.finetune.run import Run
from hpkit.lessons.exercise import BrokenRun, Exercise, usual_point
from hpkit.recipe import NOTES

NOTEBOOK = "02_warmup_and_schedules"


def _wrong_updates() -> dict[float, str]:
    one_epoch = account(NOTES.replace(num_train_epochs=1), 52_000).updates
    return {
        52_000 / 8 * 2: "That counts batches of 8. An update waits for 32 of them",
        one_epoch: "That is one epoch; the notes have two",
        52_000 * 2: "That counts examples, not updates",
    }


def _wrong_peaks() -> dict[float, str]:
    rate = NOTES.learning_rate
    updates = account(NOTES, 52_000).updates
    return {
        rate: "That is the rate asked for. Compare the warmup with the number of updates",
        rate * 2000 / updates: "That is upside down: updates of the run over updates of warmup",
        rate / 2000: "That is the rise of a single update",
    }


def _reaches_its_rate(run: Run) -> str:
    asked = run.recipe.learning_rate
    highest = max(entry["learning_rate"] for entry in run.history if "learning_rate" in entry)
    # The peak lies between two lines of the log as a rule, so the highest logged rate is below it.
    if highest / asked > 0.8:
        return ""
    return (
        f"The highest logged rate is {highest:.1e}, {highest / asked:.0%} of the {asked:.1e} asked "
        "for: warmup still outlasts the run"
    )


EXERCISES = {
    "02-updates": Exercise(
        notebook=NOTEBOOK,
        question=(
            "With the notes' recipe and 52,000 examples, how many updates does the run have?"
        ),
        answer=lambda: account(NOTES, 52_000).updates,
        why=(
            "52,000 / (8 x 32), rounded up, times two epochs. Warmup of 2,000 would take ten such "
            "epochs"
        ),
        wrong=_wrong_updates,
    ),
    "02-peak": Exercise(
        notebook=NOTEBOOK,
        question=(
            "What is the highest learning rate of that run, with the notes' 2,000 updates of "
            "warmup?"
        ),
        answer=lambda: account(NOTES, 52_000).peak_learning_rate,
        why="The rate rises by 1e-4 / 2,000 an update, and the run ends long before update 2,000",
        wrong=_wrong_peaks,
    ),
    "02-broken": BrokenRun(
        notebook=NOTEBOOK,
        question=(
            "This run hardly learns. Read its log, change one argument, and let the rate reach "
            "what is asked for."
        ),
        point=lambda: usual_point(max_steps=40, warmup_steps=2000),
        cured=_reaches_its_rate,
        why="With a warmup shorter than the run, the rate gets where it should, and falls again",
        cure={"warmup_steps": 0.1},
        wrong=({"learning_rate": 1e-2}, {"weight_decay": 0.0}, {"warmup_steps": 100}),
    ),
}
