"""The card of every hyperparameter: the one source for `hpkit explain`, the README's table and the command's help.

Defaults are those of transformers 5.23's TrainingArguments; a test compares them with the installed version.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from hpkit.formatting import shown

_PAPER_8BIT = (
    "Dettmers et al., 8-bit Optimizers via Block-wise Quantization (2021), arXiv 2110.02861"
)
_PAPER_MUSIC = (
    "Wu and Sun, Pre-trained Checkpoints in Text-to-Music Generation (2022), arXiv 2211.11216"
)
_PAPER_BF16 = "Henry, Tang and Heinecke, Leveraging the bfloat16 Datatype (2019), arXiv 1904.06376"
_TRAINER = "transformers, TrainingArguments"

SCHEDULERS = (
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
    "reduce_lr_on_plateau",
    "cosine_with_min_lr",
    "cosine_warmup_with_min_lr",
    "warmup_stable_decay",
    "greedy",
)


@dataclass(frozen=True)
class Card:
    """What one hyperparameter is, what three parties set it to, and what we found.

    `default` is transformers' own, `notes` the notes' value, `starter` ours; `why` is empty only where ours equals the
    notes'. `expected` says in words what `valid` accepts. `practice`: where to start, by case; `symptoms`: what a reader sees
    that calls for a change here, with the change.
    """

    name: str
    unit: str
    what: str
    default: object
    notes: object
    starter: object
    why: str
    verdict: str
    source: str
    notebook: str
    expected: str
    valid: Callable[[object], bool]
    practice: str = ""
    symptoms: dict[str, str] = field(default_factory=dict)


def _whole(value, low: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= low


def _number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _interval(value) -> bool:
    return _whole(value, 1) or (_number(value) and 0 < value < 1)


_BOOL = dict(expected="true or false", valid=lambda v: isinstance(v, bool))
_SHARE = dict(expected="a number from 0 to below 1", valid=lambda v: _number(v) and 0 <= v < 1)
_NOT_NEGATIVE = dict(expected="a number of 0 or more", valid=lambda v: _number(v) and v >= 0)
_POSITIVE = dict(expected="a number above 0", valid=lambda v: _number(v) and v > 0)
_COUNT = dict(expected="a whole number of 1 or more", valid=lambda v: _whole(v, 1))
_INTERVAL_TEXT = "a whole number of updates from 1, or a share of the run between 0 and 1"
_INTERVAL = dict(expected=_INTERVAL_TEXT, valid=_interval)
_STRATEGIES = ("no", "steps", "epoch")
_STRATEGY = dict(expected="one of " + ", ".join(_STRATEGIES), valid=lambda v: v in _STRATEGIES)

# A card is read as a card, not as a column of arguments.
# fmt: off
CARDS = {
    card.name: card
    for card in (
        Card(
            "per_device_train_batch_size", "examples",
            "How many examples one device works on at once. It sets speed and the memory of the activations.", 8, 8, 8, "",
            "Half true: a larger batch is faster only until the device is busy, and needs more examples for the same loss.",
            "McCandlish et al., An Empirical Model of Large-Batch Training (2018), arXiv 1812.06162", "03_batch_and_accumulation",
            **_COUNT,
            practice="The largest that fits the memory. Choose batch x accumulation x devices on purpose.",
            symptoms={
                "out of memory": "halve it, and double gradient_accumulation_steps",
                "the device is idle between updates": "raise it until tokens per second stop growing",
            },
        ),
        Card(
            "gradient_accumulation_steps", "micro-batches per update",
            "How many micro-batches are summed into one update. It multiplies the batch and divides the number of updates.",
            1, 32, 1, "32 would leave 6 updates of 176 on Aird's Airs; every schedule counts updates.",
            "Wrong to call it unimportant: it sets how many updates there are, and so what warmup and schedule can do.",
            "huggingface/transformers issue 34191 (2024)", "03_batch_and_accumulation", **_COUNT,
            practice="1, unless the batch you want does not fit. Count the updates again after every change.",
            symptoms={
                "far fewer updates than expected": "lower it",
            },
        ),
        Card(
            "max_seq_length", "tokens; none is the model's maximum",
            "How many tokens one example holds. Longer text is cut into several, shorter text shares one.",
            None, None, 256, "A tune has about 170 characters; 512, the starter's maximum, doubles the cost of an update.",
            "Poor rule: memory grows with the length whether or not the data needs it. Choose by the data's lengths.",
            "not an argument of transformers; in TRL it is SFTConfig.max_length", "11_sequence_length",
            "a whole number of 2 or more, or none for the model's maximum", lambda v: v is None or _whole(v, 2),
            practice="The length that holds 95 to 99 % of the data's examples, packed.",
            symptoms={
                "out of memory": "lower it, after the batch is at 1",
                "generated text stops making sense beyond a length": "raise it, if the data has longer examples",
            },
        ),
        Card(
            "num_train_epochs", "epochs",
            "How often the run sees the whole training set. A fraction is allowed.",
            3.0, 2.0, 2.0, "",
            "Plausible, but the notes name no source. Watch the evaluation loss.", _TRAINER, "04_epochs", **_POSITIVE,
            practice="1 to 3, with an evaluation set.",
            symptoms={
                "training loss falls, evaluation loss rises": "fewer epochs, or more data",
            },
        ),
        Card(
            "max_steps", "updates; -1 leaves it to num_train_epochs",
            "The number of updates, if you want to fix it. It then overrides num_train_epochs.", -1, -1, -1, "",
            "Not in the notes.", _TRAINER, "04_epochs", "-1, or a whole number of 1 or more", lambda v: v == -1 or _whole(v, 1),
        ),
        Card(
            "learning_rate", "weight units per update",
            "How far one update moves the weights at the schedule's peak. Adam moves each weight by about this much.",
            5e-05, 0.0001, 0.001, "A model of 1.8 million parameters bears larger steps than a large one, and 176 updates need them.",
            "Wrong citation: the figure the notes name shows no learning rate. 1e-4 stands in the other paper they quote.",
            _PAPER_MUSIC, "01_learning_rate", **_POSITIVE,
            practice="The starter: 3e-4 to 1e-3. BERT: 2e-5 to 5e-5. A large language model: 2e-5, with LoRA about ten times that.",
            symptoms={
                "loss hardly falls": "raise it three times, after the peak is known to be reached",
                "loss rises in the first updates, or ends above its start": "lower it three times",
            },
        ),
        Card(
            "warmup_steps", "updates, or a share",
            "Over how many updates the learning rate climbs from 0 to its peak. Below 1 it is a share of the run.",
            0, 2000, 20, "2000 outlasts the run: with 176 updates the peak would never be reached.",
            "Wrong here. 2000 is 2 / (1 - beta2) for beta2 = 0.999, a rule for long runs. Warmup must end inside the run.",
            "Ma and Yarats, On the Adequacy of Untuned Warmup (2019), arXiv 1910.04209", "02_warmup_and_schedules",
            **_NOT_NEGATIVE,
            practice="0.03 to 0.1, as a share of the run.",
            symptoms={
                "loss hardly falls": "compare the highest rate in the log with the one asked for",
                "loss rises in the first updates, or ends above its start": "0.1, if it was 0",
            },
        ),
        Card(
            "lr_scheduler_type", "name of a schedule",
            "The shape of the learning rate after warmup. `linear` falls in a straight line to 0 at the last update.",
            "linear", "linear", "linear", "",
            "Half true: linear does fall at a fixed rate, but that rate follows from the length of the run.",
            "transformers, Optimization: schedules", "02_warmup_and_schedules",
            'one of ' + ', '.join(SCHEDULERS), lambda v: v in SCHEDULERS,
            practice="linear or cosine.",
        ),
        Card(
            "lr_scheduler_kwargs", "names and values",
            "What a schedule wants beside its name, for instance min_lr_rate for cosine_with_min_lr.", None, None, None, "",
            "Not in the notes.", "transformers, Optimization: schedules", "02_warmup_and_schedules",
            'a table of names and values, on the command line as JSON: {"num_cycles": 2}', lambda v: v is None or isinstance(v, dict),
        ),
        Card(
            "weight_decay", "per unit of learning rate",
            "The share of each weight, times the learning rate, that every update takes away. Biases and norms are left out.",
            0.0, 0.01, 0.01, "",
            "Mostly wrong here: 0.01 at a rate of 1e-4 shrinks weights by 0.04 % in 400 updates, too little to prevent overfitting.",
            "D'Angelo et al., Why Do We Need Weight Decay (2023), arXiv 2310.04415; setting: " + _PAPER_MUSIC, "05_weight_decay",
            **_NOT_NEGATIVE,
            practice="0 to 0.1. Expect no effect in short runs.",
        ),
        Card(
            "max_grad_norm", "length of the gradient",
            "The gradient is scaled down when its length exceeds this. 0 switches the limit off.", 1.0, 1.0, 1.0, "",
            "Not in the notes; this is the default.", _TRAINER, "01_learning_rate", **_NOT_NEGATIVE,
            practice="1.0.",
            symptoms={
                "single jumps of the loss": "keep it at 1.0 or below, and look at grad_norm in the log",
            },
        ),
        Card(
            "optim", "name of an optimizer",
            "The optimizer. adamw_8bit is bitsandbytes' AdamW: it stores its two running averages in 8 bits instead of 32.",
            "adamw_torch_fused", "adamw_8bit", "adamw_8bit", "",
            "Memory: true. Quality: supported. Faster: not on a CPU, where it is slower than fused AdamW.",
            _PAPER_8BIT, "09_eight_bit_adamw", "the name of an optimizer", lambda v: isinstance(v, str) and v != '',
            practice="adamw_8bit where optimizer states fill a GPU's memory, else adamw_torch_fused.",
            symptoms={
                "out of memory": "adamw_8bit",
                "an update takes longer than forward and backward explain": "adamw_torch_fused, on a CPU above all",
            },
        ),
        Card(
            "adam_beta1", "share kept per update",
            "How slowly Adam forgets old gradients: 0.9 remembers about 10 updates.", 0.9, 0.9, 0.9, "",
            "The music paper's value, and the default.", _PAPER_MUSIC, "09_eight_bit_adamw", **_SHARE,
        ),
        Card(
            "adam_beta2", "share kept per update",
            "How slowly Adam forgets old squared gradients: 0.999 remembers about 1,000 updates.", 0.999, 0.999, 0.999, "",
            "The music paper's value, and the default.", _PAPER_MUSIC, "09_eight_bit_adamw", **_SHARE,
        ),
        Card(
            "adam_epsilon", "gradient units",
            "A small number in Adam's denominator, so that it never divides by 0.", 1e-08, 1e-08, 1e-08, "",
            "The music paper's value, and the default.", _PAPER_MUSIC, "07_number_formats", **_POSITIVE,
        ),
        Card(
            "bf16", "yes or no",
            "Multiply matrices in bfloat16: the range of fp32, 8 significant bits. Weights stay fp32 (see dtype).",
            False, True, True, "",
            "True that it is more stable than fp16: its range is fp32's. That it is more precise is wrong: fp16 keeps 3 bits more.",
            _PAPER_BF16, "08_mixed_precision", **_BOOL,
            practice="true on a GPU of compute capability 8.0 or more.",
            symptoms={
                "loss becomes NaN or the scale of fp16 falls": "bf16=true in place of fp16",
            },
        ),
        Card(
            "fp16", "yes or no",
            "Multiply matrices in float16: 11 significant bits, but nothing above 65504. It needs loss scaling, and a GPU.",
            False, False, False, "",
            "Conditional: it saves time on GPUs without bf16. On a CPU transformers would train in fp32 without a word; hpkit stops.",
            _TRAINER, "08_mixed_precision", **_BOOL,
            practice="Only on GPUs without bf16 of their own, such as a T4.",
        ),
        Card(
            "dtype", "name of a format",
            "The number format in which the weights are loaded and kept.", "float32", "float32", "float32", "",
            "Not in the notes. transformers 5 loads as stored: a bf16 file then trains without fp32 weights, and small updates are lost.",
            "transformers, from_pretrained", "08_mixed_precision", "float32 or bfloat16", lambda v: v in ('float32', 'bfloat16'),
            practice="float32 for a full fine-tune.",
            symptoms={
                "loss hardly falls": "float32: bf16 weights lose small updates",
            },
        ),
        Card(
            "seed", "a whole number",
            "Where all randomness starts: order of the data, fresh weights, dropout.", 42, 3407, 3407, "",
            "Half true: it makes a run repeatable on one machine. Picard's 3407 is a warning about lucky seeds, not a recommendation.",
            "Picard, torch.manual_seed(3407) is all you need (2021), arXiv 2109.08203", "06_seed",
            "a whole number from 0 to 4294967295", lambda v: _whole(v, 0) and v < 2 ** 32,
            practice="Three seeds or more before you believe a difference.",
            symptoms={
                "the same recipe gives another result": "set it, and the versions and the number of threads too",
            },
        ),
        Card(
            "logging_strategy", "no, steps or epoch",
            "When the training loss is written down: by updates, by epochs, or never.", "steps", "steps", "steps", "", "Holds.",
            _TRAINER, "10_log_eval_save", **_STRATEGY,
        ),
        Card(
            "logging_steps", "updates, or a share",
            "Every how many updates the training loss is written down.", 500, 2000, 10, "2000 would log nothing in 176 updates.",
            "Wrong to call it unimportant: it also sets eval_steps, and a run shorter than it shows no training loss at all.",
            _TRAINER, "10_log_eval_save", **_INTERVAL,
            practice="10, or 0.02 to 0.05 of the run.",
            symptoms={
                "no training loss in the log": "below the number of updates",
            },
        ),
        Card(
            "eval_strategy", "no, steps or epoch",
            "When the loss on held-out data is measured: by updates, by epochs, or never.", "no", "steps", "steps", "", "Holds.",
            _TRAINER, "10_log_eval_save", **_STRATEGY,
        ),
        Card(
            "eval_steps", "updates, or a share; none means logging_steps",
            "Every how many updates the loss on held-out data is measured.",
            None, None, 50, "Every 10 updates, as logging has it, would lengthen the run and show little more.",
            "Not in the notes, so it follows logging_steps = 2000.", _TRAINER, "10_log_eval_save",
            _INTERVAL_TEXT + ', or none for logging_steps', lambda v: v is None or _interval(v),
            practice="A tenth of the run, set on its own.",
            symptoms={
                "no evaluation before the end": "a share such as 0.1",
            },
        ),
        Card(
            "save_strategy", "no, steps or epoch",
            "When a checkpoint is written: by updates, by epochs, or never.", "steps", "steps", "steps", "", "Holds.",
            _TRAINER, "10_log_eval_save", **_STRATEGY,
        ),
        Card(
            "save_steps", "updates, or a share",
            "Every how many updates a checkpoint is written, from which a killed run resumes.",
            500, 500, 50, "500 outlasts the run; every 50 updates a kill costs at most 15 seconds of work.",
            "Not in the notes, so the default holds.", _TRAINER, "10_log_eval_save", **_INTERVAL,
            practice="As often as you can bear to lose.",
            symptoms={
                "a kill loses the run": "a share such as 0.25, and resume",
            },
        ),
        Card(
            "save_total_limit", "checkpoints; none keeps all",
            "How many checkpoints stay on disk; older ones are deleted.",
            None, None, 2, "A checkpoint of the starter takes 11 MB of disk, and resuming needs the newest alone.",
            "Not in the notes, so all stay.", _TRAINER, "10_log_eval_save",
            "a whole number of 1 or more, or none for all", lambda v: v is None or _whole(v, 1),
            practice="2: the newest, and one that you can compare it with.",
            symptoms={
                "the disk is full": "1 or 2",
            },
        ),
    )
}
# fmt: on


def recipe_table() -> str:
    """The recipe as a Markdown table: hyperparameter, the notes' value, ours, why."""

    rows = ["| hyperparameter | notes | ours | why |", "|---|---|---|---|"]
    for card in CARDS.values():
        rows.append(
            f"| `{card.name}` | {shown(card.notes)} | {shown(card.starter)} | {card.why or 'the same'} |"
        )
    return "\n".join(rows)
