"""Exercises of notebook 07: number formats."""

from hpkit.finetune.run import Run
from hpkit.labs.formats import FORMATS
from hpkit.lessons.exercise import BrokenRun, Exercise, usual_point

NOTEBOOK = "07_number_formats"


def _wrong_stops() -> dict[float, str]:
    without_implied_bit = 2 ** FORMATS["bf16"].mantissa_bits
    return {
        without_implied_bit: (
            "You counted the 7 written bits. There is an implied 1 in front of them"
        ),
        FORMATS["fp16"].exact_integers: "That is where fp16 stops",
        2**16: "16 bits are the whole number's room: sign and exponent take 8 of them",
        FORMATS["fp32"].exact_integers: "That is where fp32 stops",
    }


def _wrong_speeds() -> dict[float, str]:
    return {
        5.2: (
            "That is enough for a single product, which has errors of 2e-3. "
            "Three parts need more of them"
        ),
        3 * 5.2: "Three products are those of two parts. Three parts have six",
        9 * 5.2: "Nine are all combinations; the three smallest are left out",
        5.2 / 6: (
            "That is upside down: each product has to be faster than fp32's, since there are six"
        ),
    }


def _learns_as_usual(run: Run) -> str:
    fallen = run.eval_loss_before - run.eval_loss_after
    if fallen > 0.035:
        return ""
    return (
        f"The evaluation loss falls by {fallen:.3f}. "
        "With an epsilon that leaves Adam alone, these 40 updates bring more than 0.035"
    )


EXERCISES = {
    "07-stops": Exercise(
        notebook=NOTEBOOK,
        question="Start at 1 and add 1 again and again in bf16. Where does the sum stop growing?",
        answer=lambda: FORMATS["bf16"].exact_integers,
        why=(
            "From 256 on the next number is two away, and 256 + 1 is rounded back to the even one"
        ),
        wrong=_wrong_stops,
    ),
    "07-density": Exercise(
        notebook=NOTEBOOK,
        question=(
            "Three bf16 parts, 5.2 times as fast as fp32: how many times as fast must one bf16 "
            "product be?"
        ),
        answer=lambda: 6 * 5.2,
        why="Six products have to fit into the time of one, 5.2 times over",
        wrong=_wrong_speeds,
    ),
    "07-broken": BrokenRun(
        notebook=NOTEBOOK,
        question=(
            "Its evaluation loss hardly falls, though rate and data are the usual ones. "
            "Change one argument."
        ),
        # Beside 0.1 the gradients are small, so Adam hardly moves a weight.
        point=lambda: usual_point(max_steps=40, eval_steps=0.25, adam_epsilon=0.1),
        cured=_learns_as_usual,
        why=(
            "Adam divides by the gradient's usual size plus epsilon. "
            "Now epsilon is small beside it again, and fp32 has no trouble with 1e-8"
        ),
        cure={"adam_epsilon": 1e-8},
        wrong=({"learning_rate": 3e-3}, {"bf16": False}),
    ),
}
