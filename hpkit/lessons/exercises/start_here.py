"""Exercises of notebook 00: start here."""

import math

from hpkit.accounting import account
from hpkit.finetune.run import Run
from hpkit.lessons.exercise import BrokenRun, Exercise, usual_point
from hpkit.recipe import STARTER
from hpkit.records.grids import Point

NOTEBOOK = "00_start_here"


def _wrong_updates() -> dict[float, str]:
    one_epoch = account(STARTER.replace(num_train_epochs=1), 640).updates
    accumulated = account(STARTER.replace(gradient_accumulation_steps=32), 640).updates
    return {
        one_epoch: "That is one epoch; the recipe has two",
        accumulated: "That has the notes' accumulation; the starter has none",
        640 * 2: "That counts examples. An update sees 8 of them",
        640: "That counts examples, of one epoch. An update sees 8 of them",
    }


def _wrong_uniform_losses() -> dict[float, str]:
    return {
        math.log2(56): "That is in bits: a nat is the surprise at 1 in e, a bit at 1 in 2",
        math.log10(56): "That is the logarithm to base 10; nats want the natural one",
        1 / 56: "That is the probability. The loss is minus its logarithm",
        56: "That is how many tokens it wavers between, e to the power of the loss",
    }


def _over_at_once() -> Point:
    # max_steps overrides num_train_epochs, and 5 updates are a third of an epoch.
    usual = usual_point(max_steps=5, warmup_steps=0, logging_steps=1, eval_steps=0.2)
    return usual._replace(corpus="airdsAirs:100")


def _sees_its_text(run: Run) -> str:
    # 17 updates are one epoch: a larger max_steps, too, lets the run see all of its text.
    if run.updates >= 17:
        return ""
    return f"The log ends after update {run.updates}. One epoch of these tunes takes 17"


EXERCISES = {
    "00-updates": Exercise(
        notebook=NOTEBOOK,
        question="How many updates does the starter's recipe make of 640 examples?",
        answer=lambda: account(STARTER, 640).updates,
        why="640 / 8 an epoch, and two epochs",
        wrong=_wrong_updates,
    ),
    "00-uniform": Exercise(
        notebook=NOTEBOOK,
        question=(
            "What is the loss, in nats, of a model that gives each of 56 tokens the same "
            "probability?"
        ),
        answer=lambda: math.log(56),
        why="-ln(1/56) = ln 56. The loss of a fresh model of the starter's shape is close to it",
        wrong=_wrong_uniform_losses,
    ),
    "00-broken": BrokenRun(
        notebook=NOTEBOOK,
        question=(
            "This run should see 100 tunes twice, and is over at once. Read its log and change one "
            "argument, so that it sees all of its text."
        ),
        point=_over_at_once,
        cured=_sees_its_text,
        why="max_steps overrides num_train_epochs; left at -1, the epochs count",
        cure={"max_steps": -1},
        wrong=({"num_train_epochs": 10}, {"learning_rate": 1e-2}, {"max_steps": 10}),
    ),
}
