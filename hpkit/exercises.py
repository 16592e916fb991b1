"""The notebooks' exercises: each check computes the right answer, and says of a typical wrong one what it reveals."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from hpkit.accounting import account
from hpkit.errors import BadInput, did_you_mean
from hpkit.finetune import Run
from hpkit.interactive import shown_number
from hpkit.recipe import NOTES
from hpkit.records import Point, load_grids, record_point


class Reply(NamedTuple):
    """Whether an answer is right, and what it shows."""

    right: bool
    words: str

    def __repr__(self) -> str:
        return ("✓ Right. " if self.right else "✗ Not yet. ") + self.words


@dataclass(frozen=True)
class Exercise:
    """A question with a number for an answer, right within one part in a hundred.

    `answer` and `wrong` compute, so that they are never out of date: the right number, and typical wrong ones with what
    each reveals. `why` explains the right one.
    """

    notebook: str
    question: str
    answer: Callable[[], float]
    why: str
    wrong: Callable[[], dict[float, str]]

    def reply(self, answer) -> Reply:
        if not isinstance(answer, (int, float)) or isinstance(answer, bool):
            return Reply(False, f"Expected a number, got {answer!r}: put yours in place of the dots")
        near = [(abs(answer - value) / (abs(value) or 1), words) for value, words in self.wrong().items()]
        right = abs(answer - self.answer()) <= 0.01 * abs(self.answer())
        if right:
            return Reply(True, self.why)
        distance, words = min(near)
        return Reply(False, words if distance <= 0.01 else f"{shown_number(answer)} is not it, and no slip that is common")


@dataclass(frozen=True)
class BrokenRun:
    """A run to be diagnosed from its log and cured by changing one argument. `cured` looks at the new run.

    It returns an empty string for a cure, else what is still wrong. `wrong`: changes that a reader tries first. `point`
    makes the run as it is broken.
    """

    notebook: str
    question: str
    point: Callable[[], Point]
    cured: Callable[[Run], str]
    why: str
    cure: dict
    wrong: tuple[dict, ...]

    def reply(self, **changes) -> Reply:
        """Train with the change, and judge the run: a minute at most. Raises BadInput for a value that cannot be."""
        point = self.point()
        recipe = point.recipe.replace(**changes)
        changed = [name for name, value in vars(recipe).items() if value != getattr(point.recipe, name)]
        if len(changed) != 1:
            return Reply(False, f"Change one argument and no more: here {len(changed)} differ from the broken run's")
        wrong = self.cured(record_point(point._replace(recipe=recipe)))
        return Reply(not wrong, wrong or self.why)


def check_answer(name: str, answer) -> Reply:
    """Check the answer to an exercise. Raises BadInput for a name that is none."""
    return _find(name, Exercise).reply(answer)


def check_cure(name: str, **changes) -> Reply:
    """Train a broken run with one argument changed, and say whether that cures it. Raises BadInput."""
    return _find(name, BrokenRun).reply(**changes)


def _find(name: str, kind: type):
    names = [known for known, exercise in EXERCISES.items() if isinstance(exercise, kind)]
    if name not in names:
        raise BadInput(f"exercise: expected one of {', '.join(names)}, got {name!r}{did_you_mean(name, names)}")
    return EXERCISES[name]


#: Every exercise by its name, which begins with its notebook's number. Each section below adds its own.
EXERCISES: dict[str, "Exercise | BrokenRun"] = {}


def usual_point() -> Point:
    """The starter's recipe as short as the recorded runs: the usual starting point of a broken run."""
    return load_grids()["seeds"].points[0]


# 02: warmup and schedules.


def _reaches_its_rate(run: Run) -> str:
    rates = [entry["learning_rate"] for entry in run.history if "learning_rate" in entry]
    share = max(rates) / run.recipe.learning_rate
    if share > 0.8:
        return ""
    asked = run.recipe.learning_rate
    return f"The highest logged rate is {max(rates):.1e}, {share:.0%} of the {asked:.1e} asked for: warmup still outlasts the run"


def _broken_warmup() -> Point:
    usual = usual_point()
    return usual._replace(recipe=usual.recipe.replace(max_steps=40, warmup_steps=2000))


EXERCISES |= {
    "02-updates": Exercise(
        "02_warmup_and_schedules",
        "With the notes' recipe and 52,000 examples, how many updates does the run have?",
        lambda: account(NOTES, 52_000).updates,
        "52,000 / (8 x 32), rounded up, times two epochs. Warmup of 2,000 would take ten such epochs",
        lambda: {
            52_000 / 8 * 2: "That counts batches of 8. An update waits for 32 of them",
            account(NOTES.replace(num_train_epochs=1), 52_000).updates: "That is one epoch; the notes have two",
            52_000 * 2: "That counts examples, not updates",
        },
    ),
    "02-peak": Exercise(
        "02_warmup_and_schedules",
        "What is the highest learning rate of that run, with the notes' 2,000 updates of warmup?",
        lambda: account(NOTES, 52_000).peak_learning_rate,
        "The rate rises by 1e-4 / 2,000 an update, and the run ends long before update 2,000",
        lambda: {
            NOTES.learning_rate: "That is the rate asked for. Compare the warmup with the number of updates",
            NOTES.learning_rate * 2000 / account(NOTES, 52_000).updates: "That is upside down: updates of the run over updates of warmup",
            NOTES.learning_rate / 2000: "That is the rise of a single update",
        },
    ),
    "02-broken": BrokenRun(
        "02_warmup_and_schedules",
        "This run hardly learns. Read its log, change one argument, and let the rate reach what is asked for.",
        _broken_warmup,
        _reaches_its_rate,
        "With a warmup shorter than the run, the rate gets where it should, and falls again",
        {"warmup_steps": 0.1},
        ({"learning_rate": 1e-2}, {"weight_decay": 0.0}, {"warmup_steps": 100}),
    ),
}


# 09: 8-bit AdamW.


def _moves_its_weights(run: Run) -> str:
    fell = run.eval_loss_before - run.eval_loss_after
    if fell < 0.02:
        return f"The evaluation loss falls by {fell:.4f} only: the updates are still too small"
    if run.recipe.adam_epsilon > 1e-3:
        return "It learns now, by making up for a divisor that is still wrong: what adam_epsilon adds outweighs every gradient"
    return ""


def _broken_epsilon() -> Point:
    usual = usual_point()
    return usual._replace(recipe=usual.recipe.replace(max_steps=30, adam_epsilon=1.0))


def _embeddings_of_gpt2() -> tuple[float, float]:
    """The share of GPT-2's embeddings in the bytes of its 8-bit states, and in its parameters."""
    from transformers import GPT2Config

    from hpkit.blockwise import saving

    gpt2 = saving(GPT2Config())
    return 8 * gpt2.in_embeddings / gpt2.bytes_8_bit, gpt2.in_embeddings / gpt2.parameters


EXERCISES |= {
    "09-bytes": Exercise(
        "09_eight_bit_adamw",
        "How many bytes of state does adamw_8bit hold beside a weight of 1,000 x 1,000?",
        lambda: 2 * 1_000_000 + 2 * 4 * 3907,
        "A byte for each value and average, and four for each of 3,907 blocks and average",
        lambda: {
            2_000_000: "Those are the codes of both averages. Each block has a scale besides, in 32 bits",
            1_000_000 + 4 * 3907: "That is one average. Adam keeps two",
            8_000_000: "That is AdamW in 32 bits",
        },
    ),
    "09-embeddings": Exercise(
        "09_eight_bit_adamw",
        "Of all bytes that adamw_8bit holds for GPT-2 124M, what share belongs to its embeddings?",
        lambda: _embeddings_of_gpt2()[0],
        "A third of the parameters at 8 bytes each, against two thirds at 2.03",
        lambda: {
            _embeddings_of_gpt2()[1]: "That is their share of the parameters. Their states stay at 32 bits, the others' do not",
            0.32: "That is their share of the parameters. Their states stay at 32 bits, the others' do not",
            _embeddings_of_gpt2()[0] / 4: "That counts two bytes each. The Trainer keeps embeddings at 32 bits: two averages of four bytes",
        },
    ),
    "09-broken": BrokenRun(
        "09_eight_bit_adamw",
        "This run hardly learns, though its rate and its gradients are as they should be. Change one argument.",
        _broken_epsilon,
        _moves_its_weights,
        "Adam divides by the size of the gradient again, and each update moves the weights by about the learning rate",
        {"adam_epsilon": 1e-8},
        ({"optim": "adamw_torch_fused"}, {"adam_beta2": 0.99}),
    ),
}


# 10: log, evaluate, save.


def _can_be_watched(run: Run) -> str:
    losses = sum("loss" in entry for entry in run.history)
    evaluations = sum("eval_loss" in entry and entry["step"] > 0 for entry in run.history)
    if min(losses, evaluations) >= 4:
        return ""
    return f"{losses} training losses and {evaluations} evaluations are in the log: to see both fall takes four of each"


def _broken_log() -> Point:
    usual = usual_point()
    return usual._replace(recipe=usual.recipe.replace(max_steps=30, logging_steps=2000, eval_steps=None))


EXERCISES |= {
    "10-losses": Exercise(
        "10_log_eval_save",
        "The notes' recipe on 52,000 examples, with logging_steps=10: how many training losses are in the log?",
        lambda: len(account(NOTES.replace(logging_steps=10), 52_000).log_at),
        "408 updates, and every tenth is logged. The last eight are in no training loss",
        lambda: {
            41: "The last update is evaluated and saved whatever the cadence. It is not logged",
            account(NOTES, 52_000).updates: "That is every update",
            52_000 / 8 * 2 / 10: "That counts batches of 8. An update waits for 32 of them",
        },
    ),
    "10-checkpoints": Exercise(
        "10_log_eval_save",
        "The same run with save_steps=50 and no save_total_limit: how many checkpoints lie on the disk at its end?",
        lambda: len(account(NOTES.replace(save_steps=50), 52_000).checkpoints),
        "At 50, 100, … 400, and one more after the last update, 408",
        lambda: {
            8: "The last update is saved too, though 408 is no multiple of 50",
            1: "That is the default, save_steps=500, beyond the run: only its end is saved",
            2: "Two would stay with save_total_limit=2. It was not set",
        },
    ),
    "10-broken": BrokenRun(
        "10_log_eval_save",
        "Nobody can say how this run went. Change one argument, so that training loss and evaluation loss can be watched.",
        _broken_log,
        _can_be_watched,
        "The training loss is logged, and the evaluation follows the same steps",
        {"logging_steps": 5},
        ({"eval_steps": 5}, {"logging_strategy": "epoch"}),
    ),
}
