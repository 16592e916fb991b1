"""Rules about the code around the call: tokenizer, data and metrics."""

import math
import re
from collections.abc import Iterator

from hpkit.formatting import plural
from hpkit.preflight.forms import LEAVE_OUT
from hpkit.preflight.plan import Plan
from hpkit.preflight.register import Finding, rule

#: Metrics that the Trainer measures itself, with eval_ or without.
OWN_METRICS = re.compile(
    r"(eval_)?(loss|runtime|samples_per_second|steps_per_second)|eval_\w+_loss"
)


@rule(
    "streaming-without-max-steps",
    "streaming",
    "max_steps",
    notebook="04",
    example="""\
from datasets import load_dataset
from transformers import Trainer, TrainingArguments

rows = load_dataset("org/d", split="train", streaming=True)
args = TrainingArguments("out", num_train_epochs=3)
trainer = Trainer(model=model, args=args, train_dataset=rows)
""",
)
def streaming_without_max_steps(plan: Plan) -> Iterator[Finding]:
    """A stream has no length, and nobody says how many updates there are.

    Epochs are counted by the data's length. transformers stops with a ValueError, because the
    schedule needs the number of updates before the first one.
    """
    if plan.written.around.streaming and plan.recipe.max_steps <= 0:
        yield Finding(
            severity="error",
            argument="streaming",
            message=(
                "the training data are a stream, which has no length, and max_steps is "
                f"{plan.recipe.max_steps}: transformers stops with a ValueError"
            ),
            changes={"max_steps": 1000},
            advice="or as many updates as the run shall have",
            evidence={"max_steps": plan.recipe.max_steps},
        )


@rule(
    "keys-exclude",
    "together",
    notebook="12",
    example="""\
base_model: org/m
datasets: [{path: org/d, type: alpaca}]
micro_batch_size: 2
num_epochs: 1
warmup_steps: 10
warmup_ratio: 0.1
""",
)
def keys_exclude(plan: Plan) -> Iterator[Finding]:
    """Two keys that the tool refuses beside each other.

    Both say the same thing in two ways, or one has no meaning with the other; the tool checks it
    before it loads anything, and stops. data/dialects.toml has the pairs.
    """
    for first, second in plan.written.around.together:
        yield Finding(
            severity="error",
            argument=second,
            message=(
                f"{plan.written.tool} refuses {first} beside {second}: 2 keys, where 1 may stand"
            ),
            advice=f"leave out {first} or {second}",
            evidence={"keys": [first, second]},
        )


@rule(
    "answers-all-alike",
    "temperature",
    notebook="03",
    example="""\
from trl import GRPOConfig

args = GRPOConfig("out", temperature=0.0)
""",
)
def answers_all_alike(plan: Plan) -> Iterator[Finding]:
    """Answers of a group are drawn at temperature 0.

    Sampling at 0 is refused by transformers. And if it were not, all answers to a prompt would be
    the same one: no answer would be better than the mean, and nothing learnt.
    """
    # vLLM draws the same answer each time, without a word.
    is_refused = not plan.value("use_vllm")
    if is_refused and plan.written.name in GENERATIONS and plan.value("temperature") == 0:
        yield Finding(
            severity="error",
            argument="temperature",
            message="temperature 0: generate refuses it, and all answers to a prompt would be one",
            changes={"temperature": LEAVE_OUT},
            advice="1.0 is the default",
            evidence={"temperature": 0},
        )


@rule(
    "best-metric-not-computed",
    "metrics",
    "metric_for_best_model",
    "eval_strategy",
    notebook="10",
    example="""\
from transformers import Trainer, TrainingArguments

args = TrainingArguments("out", eval_strategy="epoch", metric_for_best_model="f1")
trainer = Trainer(model=model, args=args, train_dataset=a, eval_dataset=b)
""",
)
def best_metric_not_computed(plan: Plan) -> Iterator[Finding]:
    """The best model is chosen by a metric that no evaluation has.

    The Trainer knows the loss and how long an evaluation took. Every other name has to come from
    compute_metrics, or the first evaluation ends the run with a KeyError.
    """
    metric = plan.value("metric_for_best_model")
    computed = plan.written.around.metrics
    if not isinstance(metric, str) or plan.value("eval_strategy") == "no":
        return
    plain = metric.removeprefix("eval_")
    if plain in computed or metric in computed or OWN_METRICS.fullmatch(metric):
        return
    has = "there is no compute_metrics"
    if computed:
        has = f"compute_metrics returns {', '.join(computed)}"
    yield Finding(
        severity="error",
        argument="metric_for_best_model",
        message=(
            f"metric_for_best_model is {metric}, and {has}: 0 evaluations have it, and the first "
            "evaluation is a KeyError"
        ),
        changes={"metric_for_best_model": "loss"},
        advice=f"or return {plain} from compute_metrics",
        evidence={"computed": list(computed)},
    )


@rule(
    "pad-is-end-mark",
    "pad_is_eos",
    notebook="11",
    example="""\
from transformers import AutoTokenizer, DataCollatorForLanguageModeling, TrainingArguments

tok = AutoTokenizer.from_pretrained("org/m")
tok.pad_token = tok.eos_token
rows = [tok(text + tok.eos_token) for text in texts]
collator = DataCollatorForLanguageModeling(tok, mlm=False)
args = TrainingArguments("out")
""",
)
def pad_is_end_mark(plan: Plan) -> Iterator[Finding]:
    """The end mark is never learnt, because it is the padding, too.

    transformers' DataCollatorForLanguageModeling takes the label of every padding token out of the
    loss. Where padding is the end mark, the true one at a text's end goes with it: the model never
    learns to stop. Of a file that puts no end mark into its texts nothing is said.
    """
    yield Finding(
        severity="warning",
        argument="pad_is_eos",
        message=(
            f"{plan.written.around.pad_is_eos} makes the end mark the padding, and the collator "
            "leaves padding out of the loss: the end of a text gets label -100"
        ),
        advice="pad with another token that the tokenizer has; or let DataCollatorForSeq2Seq pad "
        "labels of your own",
        evidence={"label": -100},
    )


@rule(
    "tokens-without-embedding",
    "added_tokens",
    notebook="11",
    example="""\
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

tok = AutoTokenizer.from_pretrained("org/m")
tok.add_tokens(["<tool>", "</tool>"])
model = AutoModelForCausalLM.from_pretrained("org/m")
trainer = Trainer(model=model, args=TrainingArguments("out"), train_dataset=rows)
""",
)
def tokens_without_embedding(plan: Plan) -> Iterator[Finding]:
    """Tokens are added to the tokenizer, and the model has no row for them.

    A new token's number is the vocabulary's size. Where the embedding has just as many rows, the
    first batch that holds the token is an IndexError, and on a GPU an assertion without a word.
    Many models have rows to spare, some of them for these very tokens: then nothing is wrong, and
    of a model that the file does not name nothing is said.
    """
    around = plan.written.around
    is_named = around.model_name is not None
    names_a_full_one = around.rows_to_spare is False
    if not is_named and not names_a_full_one:
        return
    is_full = is_named and names_a_full_one
    unless = "" if is_full else "unless it has rows to spare, as many models have, "
    yield Finding(
        severity="warning" if is_full else "hint",
        argument="added_tokens",
        message=(
            f"{around.added_tokens} gives the tokenizer tokens, and the model's embedding gets 0 "
            f"new rows: {unless}a token beyond it is an IndexError"
        ),
        advice="call model.resize_token_embeddings(len(tokenizer)) after it",
        evidence={"rows": 0},
    )


#: Arguments with which an evaluation moves its logits on, or keeps none.
KEEPS_NO_LOGITS = ("eval_accumulation_steps", "batch_eval_metrics", "prediction_loss_only")


@rule(
    "logits-kept",
    "logits_kept",
    "eval_strategy",
    notebook="10",
    example="""\
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

model = AutoModelForCausalLM.from_pretrained("org/m")
args = TrainingArguments("out", eval_strategy="epoch")
trainer = Trainer(model=model, args=args, train_dataset=a, eval_dataset=b, compute_metrics=f)
""",
)
def logits_kept(plan: Plan) -> Iterator[Finding]:
    """An evaluation keeps every logit of a language model until its end.

    compute_metrics gets the predictions of the whole evaluation at once. Those of a language model
    are a number for each token of the vocabulary at each place, on the GPU: 512 tokens of a
    vocabulary of 128,000 are 262 MB a row. preprocess_logits_for_metrics reduces them batch by
    batch, and eval_accumulation_steps moves them to the CPU.
    """
    if plan.value("eval_strategy") == "no" or any(plan.value(name) for name in KEEPS_NO_LOGITS):
        return
    yield Finding(
        severity="hint",
        argument="logits_kept",
        message=(
            f"{plan.written.around.logits_kept} gets all logits of an evaluation at once, 4 bytes "
            "for each token of the vocabulary at each place, and they wait for it on the GPU"
        ),
        advice="give the trainer preprocess_logits_for_metrics, which keeps what is counted",
        evidence={"bytes": 4},
    )


#: GRPO's and RLOO's defaults in TRL 1.16: answers to a prompt, and prompts x answers on a device.
GENERATIONS = {"GRPOConfig": 8, "RLOOConfig": 2}
DEVICE_BATCH = 8
#: GPUs in a usual machine.
NODE = 8


@rule(
    "generations-do-not-divide",
    notebook="03",
    example="""\
from trl import GRPOConfig

args = GRPOConfig("out", per_device_train_batch_size=16, num_generations=6)
""",
)
def generations_do_not_divide(plan: Plan) -> Iterator[Finding]:
    """GRPO's batch holds no whole groups of answers.

    Each prompt is answered num_generations times, and the answers are compared with one another. So
    the answers of a round, the batch of all devices times the accumulation, have to be a multiple.
    """
    written = plan.written
    # Unsloth raises the batch by itself.
    if written.name not in GENERATIONS or written.origin != "trl" or written.unsloth:
        return
    told = ("num_generations", "per_device_train_batch_size", "gradient_accumulation_steps")
    anything_may_be_set = any(name.startswith("*") for name in written.unread)
    others = ("generation_batch_size", "steps_per_generation")
    if anything_may_be_set or {*told, *others} & set(written.unread):
        return
    values = [plan.given.get(name) for name in told]
    defaults = (GENERATIONS[written.name], DEVICE_BATCH, 1)
    generations, batch, accumulation = (
        default if value is None else value for value, default in zip(values, defaults)
    )
    steps = plan.given.get("steps_per_generation") or accumulation
    answers = plan.given.get("generation_batch_size") or batch * steps * plan.processes
    if not all(isinstance(count, int) and count > 0 for count in (generations, answers)):
        return
    # Fewer answers than one prompt has come from a script for several devices.
    if answers % generations == 0 or answers < generations:
        return
    devices = plural(plan.processes, "device")
    # So many times the devices hold whole groups; a recipe alone does not say how many there are.
    times = generations // math.gcd(generations, answers)
    is_for_several = written.around.processes is None and times * plan.processes <= NODE
    stops = "there TRL" if is_for_several else "TRL"
    yield Finding(
        severity="warning" if is_for_several else "error",
        argument="num_generations",
        message=(
            f"a round has {answers} answers on {devices}, which {generations} to a "
            f"prompt do not divide: {stops} stops with a ValueError"
        ),
        changes=_dividing(plan, generations, batch, answers),
        advice=f"or train on a multiple of {times * plan.processes} devices",
        evidence={"answers": answers, "generations": generations},
    )


def _dividing(plan: Plan, generations: int, batch: int, answers: int) -> dict:
    """A larger batch whose rounds hold whole groups."""
    if plan.given.get("generation_batch_size"):
        step = math.lcm(generations, batch * plan.processes)
        return {"generation_batch_size": -(-answers // step) * step}
    return {"per_device_train_batch_size": -(-batch // generations) * generations}
