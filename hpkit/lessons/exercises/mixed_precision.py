"""The notebooks' exercises: each check computes the right answer, and says of a typical wrong one what it reveals."""

import math

from hpkit.accounting import account
from hpkit.errors import BadInput, did_you_mean
from hpkit.finetune.run import Run
from hpkit.labs.formats import FORMATS
from hpkit.lessons.exercise import BrokenRun, Exercise, Reply, usual_point
from hpkit.recipe import NOTES, STARTER
from hpkit.records.grids import Point
from hpkit.records.table import load_runs
from hpkit.schedules import learning_rates

#: Every exercise by its name, which begins with its notebook's number. Each section below adds its own.
EXERCISES: dict[str, Exercise | BrokenRun] = {}


def check_answer(name: str, answer) -> Reply:
    """Check the answer to an exercise. Raises BadInput for a name that is none."""
    return _find(name, Exercise).reply(answer)


def check_cure(name: str, **changes) -> Reply:
    """Train a broken run with one argument changed, and say whether that cures it. Raises BadInput."""
    return _find(name, BrokenRun).reply(**changes)


def _find(name: str, kind: type):
    names = [known for known, exercise in EXERCISES.items() if isinstance(exercise, kind)]
    if name not in names:
        raise BadInput(
            f"exercise: expected one of {', '.join(names)}, got {name!r}{did_you_mean(name, names)}"
        )
    return EXERCISES[name]


# 00: start here.


def _sees_its_text(run: Run) -> str:
    if run.updates >= 17:
        return ""
    return f"The log ends after update {run.updates}. One epoch of these tunes takes 17"


def _broken_start() -> Point:
    recipe = usual_point().recipe.replace(
        max_steps=5, warmup_steps=0, logging_steps=1, eval_steps=0.2
    )
    return Point(recipe, corpus="airdsAirs:100")


EXERCISES |= {
    "00-updates": Exercise(
        "00_start_here",
        "How many updates does the starter's recipe make of 640 examples?",
        lambda: account(STARTER, 640).updates,
        "640 / 8 an epoch, and two epochs",
        lambda: {
            account(
                STARTER.replace(num_train_epochs=1), 640
            ).updates: "That is one epoch; the recipe has two",
            account(
                STARTER.replace(gradient_accumulation_steps=32), 640
            ).updates: "That has the notes' accumulation; the starter has none",
            640 * 2: "That counts examples. An update sees 8 of them",
            640: "That counts examples, of one epoch. An update sees 8 of them",
        },
    ),
    "00-uniform": Exercise(
        "00_start_here",
        "What is the loss, in nats, of a model that gives each of 56 tokens the same probability?",
        lambda: math.log(56),
        "-ln(1/56) = ln 56. The loss of a fresh model of the starter's shape is close to it",
        lambda: {
            math.log2(56): "That is in bits: a nat is the surprise at 1 in e, a bit at 1 in 2",
            math.log10(56): "That is the logarithm to base 10; nats want the natural one",
            1 / 56: "That is the probability. The loss is minus its logarithm",
            56: "That is how many tokens it wavers between, e to the power of the loss",
        },
    ),
    "00-broken": BrokenRun(
        "00_start_here",
        "This run should see 100 tunes twice, and is over at once. Read its log and change one argument, so that it sees all of its text.",
        _broken_start,
        _sees_its_text,
        "max_steps overrides num_train_epochs; left at -1, the epochs count",
        {"max_steps": -1},
        ({"num_train_epochs": 10}, {"learning_rate": 1e-2}, {"max_steps": 10}),
    ),
}


# 01: learning rate.


def _broken_rate() -> Point:
    usual = usual_point()
    return usual._replace(
        recipe=usual.recipe.replace(learning_rate=3e-2, max_steps=30, eval_steps=0.2)
    )


def _learns(run: Run) -> str:
    before, after = run.eval_loss_before, run.eval_loss_after
    if after < before - 0.02:
        return ""
    if abs(after - before) <= 0.02:
        return f"The evaluation loss went from {before:.3f} to {after:.3f}: nothing is broken any more, and next to nothing is learnt"
    return f"The evaluation loss still rises, from {before:.3f} to {after:.3f}: the run forgets what the starter knew"


EXERCISES |= {
    "01-decades": Exercise(
        "01_learning_rate",
        "You sweep from 1e-5 to 1e-1, both included, with two rates to every power of ten. How many runs with three seeds each?",
        lambda: 9 * 3,
        "Four powers of ten hold eight half steps, so nine rates, and each is trained three times",
        lambda: {
            8 * 3: "Eight half steps have nine ends: both 1e-5 and 1e-1 are trained",
            9: "Nine rates it is. Each is trained with three seeds",
            5 * 3: "That is one rate to every power of ten; asked were two",
        },
    ),
    "01-own-size": Exercise(
        "01_learning_rate",
        "A weight of size 0.02 is moved by one rate in each update, always the same way, at a constant 1e-3. After how many updates has it "
        "moved by its own size?",
        lambda: 0.02 / 1e-3,
        "0.02 / 1e-3. At the notes' 1e-4 it would take ten times as many, and real weights turn round on the way",
        lambda: {
            0.02 / 1e-4: "That is the answer at 1e-4; asked was 1e-3",
            0.02
            * 1e-3: "That multiplies: it is how far a plain gradient of 0.02 would move it. Divide the way by the length of a step",
            1e-3 / 0.02: "That is upside down: one step in units of the weight's size",
        },
    ),
    "01-broken": BrokenRun(
        "01_learning_rate",
        "The evaluation loss of this run rises from its first update. Read its log, change one argument, and let it learn.",
        _broken_rate,
        _learns,
        "At a rate that fits the model the same 30 updates lower the loss",
        {"learning_rate": 3e-4},
        ({"max_grad_norm": 0.01}, {"warmup_steps": 0.5}, {"learning_rate": 1e-6}),
    ),
}


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
            account(
                NOTES.replace(num_train_epochs=1), 52_000
            ).updates: "That is one epoch; the notes have two",
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
            NOTES.learning_rate
            * 2000
            / account(
                NOTES, 52_000
            ).updates: "That is upside down: updates of the run over updates of warmup",
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


# 03: batch and accumulation.


def _learns_on_average(run: Run) -> str:
    before, after = run.eval_loss_before, run.eval_loss_after
    if after is not None and after < before - 0.01:
        return ""
    return f"The evaluation loss goes from {before:.3f} to {after:.3f}: the updates still do not add up to learning"


def _broken_batch() -> Point:
    usual = usual_point()
    return usual._replace(
        recipe=usual.recipe.replace(max_steps=40, per_device_train_batch_size=1, eval_steps=10)
    )


EXERCISES |= {
    "03-same-update": Exercise(
        "03_batch_and_accumulation",
        "Which gradient_accumulation_steps makes an update of 8 x 32 examples from micro-batches of 2?",
        lambda: NOTES.per_device_train_batch_size * NOTES.gradient_accumulation_steps / 2,
        "2 x 128 are the same 256 examples; only the memory of a pass is smaller",
        lambda: {
            NOTES.gradient_accumulation_steps: "With 32 an update would see 2 x 32 = 64 examples, a quarter",
            NOTES.per_device_train_batch_size
            * NOTES.gradient_accumulation_steps: "That is how many examples the update sees; each micro-batch brings 2",
            NOTES.gradient_accumulation_steps
            / 4: "That is the wrong way round: smaller micro-batches need more of them",
        },
    ),
    "03-one-batch": Exercise(
        "03_batch_and_accumulation",
        "4 tokens with a mean loss of 3.0 and 60 with 1.0: what is the mean loss of all?",
        lambda: (4 * 3.0 + 60 * 1.0) / 64,
        "All 64 tokens weigh the same, so the 60 decide",
        lambda: {
            2.0: "That is the mean of the two means: a token of the first would weigh 15 times one of the second",
            4.0: "That is the sum of the two means",
            72.0: "That is the sum over all tokens: divide by how many they are",
        },
    ),
    "03-broken": BrokenRun(
        "03_batch_and_accumulation",
        "This run ends worse than it began. Read its log, change one argument, and let it learn.",
        _broken_batch,
        _learns_on_average,
        "What the gradient says by chance now counts less than what all examples have in common",
        {"gradient_accumulation_steps": 8},
        ({"weight_decay": 0.1}, {"warmup_steps": 0}, {"max_steps": 20}),
    ),
}


# 04: epochs.


def _plan(**changes) -> int:
    """Updates of 5,000 examples, batch 8, accumulation 4 and 3 epochs, or with changes."""
    plan = {
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 4,
        "num_train_epochs": 3,
        "max_steps": -1,
    }
    return account(usual_point().recipe.replace(**plan | changes), 5000).updates


def _reads_as_often_as_it_says(run: Run) -> str:
    # 30 tunes make 30 blocks of 128 characters.
    planned = account(run.recipe.replace(max_steps=-1), 30).updates
    before, after = run.eval_loss_before, run.eval_loss_after
    ends = f"The evaluation loss goes from {before:.3f} to {after:.3f}"
    if run.updates > planned:
        return f"{ends}, after {run.updates} updates where {run.recipe.num_train_epochs} epochs have {planned}: something overrides the epochs"
    return "" if after < before + 0.1 else f"{ends}: it still overfits"


def _broken_epochs() -> Point:
    usual = usual_point()
    return usual._replace(
        recipe=usual.recipe.replace(num_train_epochs=2, max_steps=40), corpus="airdsAirs:30"
    )


EXERCISES |= {
    "04-updates": Exercise(
        "04_epochs",
        "5,000 examples, batch 8, accumulation 4, 3 epochs: how many updates?",
        _plan,
        "5,000 / (8 x 4), rounded up in each epoch, times 3",
        lambda: {
            _plan(
                gradient_accumulation_steps=1
            ): "That counts batches. Four of them make an update",
            _plan(num_train_epochs=1): "That is one epoch",
            5000 * 3: "That counts examples read, not updates",
        },
    ),
    "04-fraction": Exercise(
        "04_epochs",
        "The same data, batch and accumulation: which num_train_epochs gives 100 updates?",
        lambda: 100 / _plan(num_train_epochs=1),
        "100 of the 157 updates that an epoch has; fractions are allowed",
        lambda: {
            100 / _plan(): "That divides by the updates of three epochs",
            100
            / _plan(
                num_train_epochs=1, gradient_accumulation_steps=1
            ): "That divides by batches; four of them make an update",
            _plan(num_train_epochs=1) / 100: "That is upside down",
        },
    ),
    "04-broken": BrokenRun(
        "04_epochs",
        "This run says two epochs, and ends far above its start. Change one argument so that it reads each tune twice.",
        _broken_epochs,
        _reads_as_often_as_it_says,
        "Nothing overrides the epochs any more: 8 updates, two readings of each tune, and hardly any overfitting",
        {"max_steps": -1},
        ({"num_train_epochs": 1}, {"learning_rate": 1e-4}),
    ),
}


# 05: weight decay.


def _taken_by_the_notes() -> float:
    """Percent of a weight that decay takes over the notes' run on 52,000 examples."""
    rates = learning_rates(NOTES, account(NOTES, 52_000).updates)[:-1]
    return 100 * (1 - math.prod(1 - rate * NOTES.weight_decay for rate in rates))


def _learns_again(run: Run) -> str:
    before, after = run.eval_loss_before, run.eval_loss_after
    if after < before - 0.02:
        return ""
    taken = run.recipe.learning_rate * run.recipe.weight_decay
    words = f"The evaluation loss goes from {before:.3f} to {after:.3f}, the weights' length to {run.weights_norm:.0f}"
    return f"{words}: at the highest rate an update still takes {taken:.2g} of every weight"


def _broken_decay() -> Point:
    usual = usual_point()
    return usual._replace(recipe=usual.recipe.replace(max_steps=30, weight_decay=100))


EXERCISES |= {
    "05-left": Exercise(
        "05_weight_decay",
        "Rate 1e-3, decay 0.1, gradient 0: which part of a weight is left after 5,000 updates?",
        lambda: (1 - 1e-3 * 0.1) ** 5000,
        "Each update leaves 0.9999 of it. Five thousand times that is not a half: what is taken gets smaller with the weight",
        lambda: {
            1
            - 5000
            * 1e-3
            * 0.1: "That takes the same amount every time; each update takes a share of what is left",
            1 - (1 - 1e-3 * 0.1) ** 5000: "That is the part that is gone",
            (1 - 0.1) ** 5000: "That forgets the learning rate: an update takes rate times decay",
        },
    ),
    "05-notes": Exercise(
        "05_weight_decay",
        "The notes' recipe on 52,000 examples: how many percent of a weight has decay taken after its 408 updates?",
        _taken_by_the_notes,
        "The rates of all updates add up to 0.0042, and decay takes a hundredth of that: 0.0042 percent",
        lambda: {
            100
            * account(NOTES, 52_000).updates
            * NOTES.learning_rate
            * NOTES.weight_decay: "That has the full rate at every update; "
            "the warmup outlasts the run, so the rate only rises to a fifth of it",
            _taken_by_the_notes() / 100: "That is the share; the question asks for percent",
            _taken_by_the_notes()
            / NOTES.weight_decay: "That is the sum of the rates in percent; multiply by the decay",
        },
    ),
    "05-broken": BrokenRun(
        "05_weight_decay",
        "Both losses of this run rise. Read its log, change one argument, and let it learn.",
        _broken_decay,
        _learns_again,
        "Decay no longer takes more than the gradients can give back, and the evaluation loss falls",
        {"weight_decay": 0.01},
        ({"learning_rate": 1e-4}, {"warmup_steps": 0.3}),
    ),
}


# 06: seed.


def _blamed_on_the_seed() -> Point:
    usual = usual_point()
    return usual._replace(
        recipe=usual.recipe.replace(per_device_train_batch_size=1, max_steps=30, eval_steps=0.2)
    )


def _better_than_before(run: Run) -> str:
    before, after = run.eval_loss_before, run.eval_loss_after
    if after < before:
        return ""
    return f"It ends at {after:.3f} and began at {before:.3f}: still worse, far outside of what 20 seeds do"


def _seed_ends() -> list[float]:
    return sorted(run.eval_loss_after for run in load_runs().at(*usual_point()))


EXERCISES |= {
    "06-seeds-needed": Exercise(
        "06_seed",
        "Single runs have a standard deviation of 0.0057. How many seeds does it take until their mean has one of at most 0.0025?",
        lambda: 6,
        "A mean of n runs has a standard deviation of 0.0057 / sqrt(n); n = (0.0057 / 0.0025) squared is 5.2, so six",
        lambda: {
            3: "That divides 0.0057 by 0.0025. The spread of a mean falls with the square root of the number of seeds",
            5: "Nearly: five give 0.00255, just above",
            2: "Two seeds divide the spread by the square root of two, 1.4; it takes a factor of 2.3",
        },
    ),
    "06-best-of": Exercise(
        "06_seed",
        "You train one unchanged recipe with 20 seeds and report the best. By how many nats does it look better than the median?",
        lambda: (_seed_ends()[9] + _seed_ends()[10]) / 2 - _seed_ends()[0],
        "All of it is luck: nothing was changed. It is more than what lies between 3e-4 and 1e-3 here",
        lambda: {
            _seed_ends()[-1]
            - _seed_ends()[
                0
            ]: "That is from the worst to the best; asked is from the median to the best",
            _seed_ends()[-1]
            - (_seed_ends()[9] + _seed_ends()[10])
            / 2: "That is how far the worst lies above the median",
        },
    ),
    "06-broken": BrokenRun(
        "06_seed",
        "The loss of this run jumps, and it ends worse than it began. Bad luck? Change one argument and let it end better than it began.",
        _blamed_on_the_seed,
        _better_than_before,
        "The seed was innocent. Updates of one short piece point anywhere; with more pieces to an update, or smaller steps, they agree",
        {"per_device_train_batch_size": 8},
        ({"seed": 1}, {"seed": 42}, {"weight_decay": 0.0}),
    ),
}


# 07: number formats.


def _learns_as_usual(run: Run) -> str:
    fallen = run.eval_loss_before - run.eval_loss_after
    if fallen > 0.035:
        return ""
    return f"The evaluation loss falls by {fallen:.3f}. With an epsilon that leaves Adam alone, these 40 updates bring more than 0.035"


def _large_epsilon() -> Point:
    usual = usual_point()
    return usual._replace(
        recipe=usual.recipe.replace(max_steps=40, eval_steps=0.25, adam_epsilon=0.1)
    )


EXERCISES |= {
    "07-stops": Exercise(
        "07_number_formats",
        "Start at 1 and add 1 again and again in bf16. Where does the sum stop growing?",
        lambda: FORMATS["bf16"].exact_integers,
        "From 256 on the next number is two away, and 256 + 1 is rounded back to the even one",
        lambda: {
            2
            ** FORMATS[
                "bf16"
            ].mantissa_bits: "You counted the 7 written bits. There is an implied 1 in front of them",
            FORMATS["fp16"].exact_integers: "That is where fp16 stops",
            2**16: "16 bits are the whole number's room: sign and exponent take 8 of them",
            FORMATS["fp32"].exact_integers: "That is where fp32 stops",
        },
    ),
    "07-density": Exercise(
        "07_number_formats",
        "Three bf16 parts, 5.2 times as fast as fp32: how many times as fast must one bf16 product be?",
        lambda: 6 * 5.2,
        "Six products have to fit into the time of one, 5.2 times over",
        lambda: {
            5.2: "That is enough for a single product, which has errors of 2e-3. Three parts need more of them",
            3 * 5.2: "Three products are those of two parts. Three parts have six",
            9 * 5.2: "Nine are all combinations; the three smallest are left out",
            5.2
            / 6: "That is upside down: each product has to be faster than fp32's, since there are six",
        },
    ),
    "07-broken": BrokenRun(
        "07_number_formats",
        "Its evaluation loss hardly falls, though rate and data are the usual ones. Change one argument.",
        _large_epsilon,
        _learns_as_usual,
        "Adam divides by the gradient's usual size plus epsilon. Now epsilon is small beside it again, and fp32 has no trouble with 1e-8",
        {"adam_epsilon": 1e-8},
        ({"learning_rate": 3e-3}, {"bf16": False}),
    ),
}


# 08: mixed precision.


def _keeps_small_updates(run: Run) -> str:
    if run.recipe.learning_rate != _bf16_weights().recipe.learning_rate:
        return "The learning rate was to stay: larger updates survive the rounding, and change the model more than was wanted"
    fallen = run.eval_loss_before - run.eval_loss_after
    if fallen > 0.015:
        return ""
    return f"The evaluation loss falls by {fallen:.4f}. At this rate it can fall by more than 0.015: what rounds the updates away?"


def _bf16_weights() -> Point:
    usual = usual_point()
    return usual._replace(
        recipe=usual.recipe.replace(
            max_steps=40, eval_steps=0.25, learning_rate=3e-5, dtype="bfloat16"
        )
    )


EXERCISES |= {
    "08-scale": Exercise(
        "08_mixed_precision",
        "By which smallest power of two must a gradient of 3e-9 be scaled to be a normal number of fp16?",
        lambda: 2.0 ** math.ceil(math.log2(FORMATS["fp16"].smallest_normal / 3e-9)),
        "6.1e-5 / 3e-9 is 20,345, and the next power of two above is 32,768",
        lambda: {
            2.0
            ** math.ceil(
                math.log2(FORMATS["fp16"].smallest_subnormal / 2 / 3e-9)
            ): "That keeps it from becoming 0, with a single bit",
            2.0
            ** math.ceil(
                math.log2(FORMATS["fp16"].smallest_subnormal / 3e-9)
            ): "That makes it the smallest subnormal, with a single bit",
            2.0
            ** math.floor(
                math.log2(FORMATS["fp16"].smallest_normal / 3e-9)
            ): "Just too little: 16,384 x 3e-9 = 4.9e-5 is below 6.1e-5",
            FORMATS["fp16"].smallest_normal
            / 3e-9: "That is the ratio. Which power of two is the next above it?",
            2.0**16: "That is torch's first scale. A smaller one is enough",
        },
    ),
    "08-bytes": Exercise(
        "08_mixed_precision",
        "fp32 weights, bf16=True, 32-bit AdamW: how many bytes a parameter for weights, gradients and states?",
        lambda: 4 + 4 + 8,
        "Autocast changes products. What is kept stays fp32: 4 + 4 + 8",
        lambda: {
            8: "That is a model whose weights are bf16: 2 + 2 + 4",
            12: "A weight takes 4, a gradient 4, and Adam has two averages of 4 each",
            14: "Is the weight or the gradient bf16? Look at the table again",
            2: "That is one bf16 number. Weights, gradients and two averages are kept, and none of them in bf16",
            10: "That is with adamw_8bit",
        },
    ),
    "08-gap": Exercise(
        "08_mixed_precision",
        "A bf16 weight of exactly 1: more than how much must an update be, so that the weight grows?",
        lambda: FORMATS["bf16"].epsilon / 2,
        "Half the gap above 1, which is 2^-7 wide",
        lambda: {
            FORMATS[
                "bf16"
            ].epsilon: "That is the whole gap. Rounding goes to the nearest: half of it is enough",
            FORMATS["bf16"].epsilon
            / 4: "Below 1 the gap is half as wide, so that is the answer for shrinking",
            FORMATS["fp16"].epsilon / 2: "That is fp16's half gap",
        },
    ),
    "08-broken": BrokenRun(
        "08_mixed_precision",
        "It hardly learns at a small learning rate. Change one argument, and leave the rate.",
        _bf16_weights,
        _keeps_small_updates,
        "fp32 weights take every update, and products are still bf16",
        {"dtype": "float32"},
        ({"bf16": False}, {"learning_rate": 3e-4}),
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

    from hpkit.labs.blockwise import saving

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
            _embeddings_of_gpt2()[
                1
            ]: "That is their share of the parameters. Their states stay at 32 bits, the others' do not",
            0.32: "That is their share of the parameters. Their states stay at 32 bits, the others' do not",
            _embeddings_of_gpt2()[0]
            / 4: "That counts two bytes each. The Trainer keeps embeddings at 32 bits: two averages of four bytes",
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
    return usual._replace(
        recipe=usual.recipe.replace(max_steps=30, logging_steps=2000, eval_steps=None)
    )


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


# 11: sequence length.


def _reads_enough(run: Run) -> str:
    before, after = run.eval_loss_before, run.eval_loss_after
    if after is not None and after < before - 0.02:
        return ""
    first = next(entry["loss"] for entry in run.history if "loss" in entry)
    return (
        f"The evaluation loss goes from {before:.3f} to {after:.3f}, and the first training loss, {first:.2f}, "
        f"lies {first - before:.2f} above it: the examples still hold less than what is asked about"
    )


def _broken_length() -> Point:
    usual = usual_point()
    return usual._replace(
        recipe=usual.recipe.replace(max_steps=40, max_seq_length=16, eval_steps=10)
    )


EXERCISES |= {
    "11-share": Exercise(
        "11_sequence_length",
        "Texts of 100, 200, 300 and 400 tokens, padded to the longest: what share of the places is padding, in percent?",
        lambda: 100 * (1 - (100 + 200 + 300 + 400) / (4 * 400)),
        "600 of 1,600 places mean nothing and are computed nevertheless",
        lambda: {
            62.5: "That is the share of real tokens",
            60.0: "That is padding held against real tokens: 600 to 1,000. The question is about all places",
            25.0: "That leaves the longest out: count all 4 x 400 places",
        },
    ),
    "11-bytes": Exercise(
        "11_sequence_length",
        "1 x 512 tokens keep 34 MB under sdpa: how many MB do 8 x 128 tokens keep?",
        lambda: 34 * 8 * 128 / 512,
        "Under sdpa the tokens of a micro-batch count, however they are spread over examples",
        lambda: {
            34 * 8: "That would be 8 examples of 512 tokens",
            34 / 4: "That is one example of 128 tokens",
            34: "8 x 128 are 1,024 tokens, twice as many as 512",
        },
    ),
    "11-broken": BrokenRun(
        "11_sequence_length",
        "The training loss lies far above the evaluation loss, which rises. Read the log, change one argument, and mend it.",
        _broken_length,
        _reads_enough,
        "Now a piece holds most of a tune, and what is learned from it helps with whole ones",
        {"max_seq_length": 128},
        ({"learning_rate": 1e-4}, {"per_device_train_batch_size": 32}, {"max_steps": 80}),
    ),
}


# 12: your own run.


def _learns_from_nothing(run: Run) -> str:
    if run.eval_loss_after < 3:
        return ""
    return f"The evaluation loss still ends at {run.eval_loss_after:.2f}, from {run.eval_loss_before:.2f}"


def _broken_rate() -> Point:
    return Point(usual_point().recipe.replace(max_steps=40, learning_rate=2e-5), model="fresh")


def _largest_accumulation(examples: int, batch: int, epochs: float, updates: int) -> int:
    recipe = NOTES.replace(per_device_train_batch_size=batch, num_train_epochs=epochs)
    counts = (
        account(recipe.replace(gradient_accumulation_steps=steps), examples).updates
        for steps in range(1, examples // batch + 1)
    )
    return max(steps for steps, count in enumerate(counts, 1) if count >= updates)


EXERCISES |= {
    "12-accumulation": Exercise(
        "12_your_own_run",
        "3,000 examples, batches of 4, two epochs: the largest gradient_accumulation_steps that leaves 100 updates or more?",
        lambda: _largest_accumulation(3000, 4, 2, 100),
        "3,000 / 4 = 750 batches an epoch, and 50 updates an epoch are wanted",
        lambda: {
            _largest_accumulation(3000, 4, 1, 100): "That is for one epoch; there are two",
            _largest_accumulation(
                3000, 1, 2, 100
            ): "That counts examples. It is batches of 4 that are accumulated",
            1: "That leaves 1,500 updates: more can be accumulated",
        },
    ),
    "12-file": Exercise(
        "12_your_own_run",
        "100 million parameters, loaded as float32, trained with bf16=True and adamw_8bit: how many MB has model.safetensors?",
        lambda: 100 * 4,
        "The weights stay in float32, four bytes each; bf16 is the arithmetic's format, 8 bits the optimizer's",
        lambda: {
            100
            * 2: "That is bf16. bf16=True multiplies in it; the weights stay as they were loaded",
            100 * 1: "That is 8 bits. It is the optimizer's memory that has them",
            100
            * (
                4 + 2
            ): "That counts the optimizer's states too. They are in a checkpoint, and not in the model's file",
        },
    ),
    "12-broken": BrokenRun(
        "12_your_own_run",
        "Random weights that hardly learn. Read the log, change one argument, and get below 3 nats.",
        _broken_rate,
        _learns_from_nothing,
        "A rate for large pre-trained models is far too small for a small one that starts from nothing",
        {"learning_rate": 1e-3},
        ({"warmup_steps": 0}, {"weight_decay": 0.0}, {"max_grad_norm": 10.0}),
    ),
}
