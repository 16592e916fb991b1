"""The rules of `preflight`: what can be wrong with a run, the number that proves it, and the change that mends it.

Each rule is a generator over a plan (`preflight.Plan`) that has what the rule says it needs.
"""

import ast
import importlib.metadata
import inspect
import math
import shutil
import textwrap
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

from hpkit.accounting import MEASURED, WITHOUT_WARMUP, Accounting
from hpkit.capability import EIGHT_BIT_ADAMW, MACHINES
from hpkit.errors import BadInput, did_you_mean
from hpkit.formatting import shown, shown_bytes, shown_rate
from hpkit.hyperparameters import CARDS
from hpkit.memory import optimizer_states
from hpkit.preflight.arguments import (
    DEPRECATED,
    MOVED_FROM_TRAINER,
    SUCCESSORS,
    TRANSFORMERS_ARGUMENTS,
    instead,
    optimizer_names,
    training_argument_names,
)
from hpkit.recipe import Recipe

FEW_UPDATES = 50
#: What the learning rates depend on.
RATES = ("learning_rate", "warmup_steps", "lr_scheduler_type", "lr_scheduler_kwargs")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. `message` is one sentence with the number, `fix` the change that mends it.

    `severity`: an error stops the run, or the run does not do what was asked; a warning costs quality or work; a hint is
    worth knowing. `evidence` holds the numbers by name, `argument` the hyperparameter it is about, where there is one.
    """

    rule: str
    severity: str
    message: str
    evidence: dict
    fix: str
    argument: str | None = None

    def __str__(self) -> str:
        return f"{self.severity} {self.rule}: {self.message}. To mend it: {self.fix}"


#: (name, what the rule needs, the rule).
RULES = []


def _rule(name: str, *needs: str):
    def keep(look):
        RULES.append((name, needs, look))
        return look

    return keep


# Each rule is a generator of (severity, argument, message, fix, evidence) over a plan that has what it needs.


@_rule("warmup-outlasts-run", "counts", "warmup_steps", "lr_scheduler_type")
def _warmup_outlasts(plan):
    counts = plan.counts
    if counts.updates <= counts.warmup_updates:
        yield (
            "error",
            "warmup_steps",
            f"warmup takes {counts.warmup_updates:,} updates and the run has {counts.updates:,}: it never ends",
            _shorter_warmup(counts),
            {"warmup_updates": counts.warmup_updates, "updates": counts.updates},
        )


@_rule("warmup-over-third", "counts", "warmup_steps", "lr_scheduler_type")
def _warmup_over_third(plan):
    warmup, updates = plan.counts.warmup_updates, plan.counts.updates
    if updates < 3 * warmup < 3 * updates:
        message = f"warmup takes {warmup:,} of {updates:,} updates, {warmup / updates:.0%} of the run; 3 to 10 % is usual"
        yield (
            "warning",
            "warmup_steps",
            message,
            _shorter_warmup(plan.counts),
            {"warmup_updates": warmup, "updates": updates},
        )


def _shorter_warmup(counts: Accounting) -> str:
    tenth = math.ceil(counts.updates / 10)
    if 3 * tenth > counts.updates:
        return "set warmup_steps=0: so short a run has no time for warmup"
    return f"set warmup_steps=0.1, a tenth of the run ({tenth:,} update{'s' * (tenth > 1)})"


@_rule("peak-not-reached", "counts", *RATES)
def _peak_not_reached(plan):
    counts, asked = plan.counts, plan.recipe.learning_rate
    if (
        counts.learning_rates
        and plan.peak < 0.99 * asked
        and counts.peak_learning_rate < 0.99 * asked
    ):
        reached = counts.peak_learning_rate
        yield (
            "error" if reached < 0.5 * asked else "warning",
            "learning_rate",
            f"the learning rate's peak is {shown_rate(reached)}, {100 * reached / asked:.2g} % of the {shown_rate(asked)} asked for, "
            f"at the end of {counts.updates:,} updates",
            _shorter_warmup(counts),
            {"peak_learning_rate": reached, "learning_rate": asked, "updates": counts.updates},
        )


@_rule("few-updates", "counts")
def _few_updates(plan):
    counts, recipe = plan.counts, plan.recipe
    if counts.updates >= FEW_UPDATES:
        return
    batch, accumulation = recipe.per_device_train_batch_size, recipe.gradient_accumulation_steps
    if recipe.max_steps > 0:
        message, fix = (
            f"max_steps {recipe.max_steps} allows {counts.updates} updates",
            f"set max_steps={FEW_UPDATES} or more",
        )
    else:
        devices = f" x {counts.processes} devices" if counts.processes > 1 else ""
        message = (
            f"{counts.examples:,} examples at batch {batch} x {accumulation} accumulated{devices} make {counts.updates} "
            f"update{'s' * (counts.updates > 1)} in {recipe.num_train_epochs:g} epoch{'s' * (recipe.num_train_epochs != 1)}"
        )

        def updates(accumulated: int) -> int:
            return math.ceil(
                recipe.num_train_epochs * math.ceil(counts.micro_batches_per_epoch / accumulated)
            )

        # The more is accumulated the fewer updates, and beyond an epoch's micro-batches no fewer; so the most that leaves enough.
        sizes = range(1, min(accumulation, counts.micro_batches_per_epoch) + 1)
        enough = bisect_right(sizes, -FEW_UPDATES, key=lambda accumulated: -updates(accumulated))
        epochs = math.ceil(FEW_UPDATES / max(counts.micro_batches_per_epoch, 1))
        more = f"set num_train_epochs={epochs}{', gradient_accumulation_steps=1' * (accumulation > 1)}, or better, find more examples"
        fix = (
            f"set gradient_accumulation_steps={enough}: {updates(enough)} updates"
            if enough
            else more
        )
    argument = (
        "max_steps"
        if recipe.max_steps > 0
        else "gradient_accumulation_steps"
        if accumulation > 1
        else "num_train_epochs"
    )
    yield (
        "warning",
        argument,
        message,
        fix,
        {"updates": counts.updates, "effective_batch": counts.effective_batch},
    )


@_rule("no-training-loss", "counts", "logging_strategy", "logging_steps")
def _no_training_loss(plan):
    counts, recipe = plan.counts, plan.recipe
    if recipe.logging_strategy == "steps" and not counts.log_at:
        message = f"logging_steps {shown(recipe.logging_steps)} lies beyond the run's {counts.updates:,} updates: no training loss is logged"
        fix = f"set logging_steps={max(counts.updates // 20, 1)}"
        yield (
            "warning",
            "logging_steps",
            message,
            fix,
            {"logging_steps": recipe.logging_steps, "updates": counts.updates},
        )


@_rule("eval-beyond-run", "counts", "eval_strategy", "eval_steps", "logging_steps")
def _eval_beyond(plan):
    counts, recipe = plan.counts, plan.recipe
    every = recipe.eval_steps or recipe.logging_steps
    if recipe.eval_strategy == "steps" and every > counts.updates > 1:
        source = "eval_steps" if recipe.eval_steps else "eval_steps follows logging_steps and"
        message = f"{source} is {shown(every)}, beyond the run's {counts.updates:,} updates: it is evaluated once, at its end"
        fix = f"set eval_steps={max(counts.updates // 10, 1)}"
        yield (
            "warning",
            "eval_steps",
            message,
            fix,
            {"eval_steps": every, "updates": counts.updates},
        )


@_rule("save-beyond-run", "counts", "save_strategy", "save_steps")
def _save_beyond(plan):
    counts, recipe = plan.counts, plan.recipe
    if recipe.save_strategy == "steps" and recipe.save_steps > counts.updates > 1:
        message = f"save_steps {shown(recipe.save_steps)} lies beyond the run's {counts.updates:,} updates: a kill loses all of them"
        fix = f"set save_steps={max(counts.updates // 4, 1)}"
        yield (
            "hint",
            "save_steps",
            message,
            fix,
            {"save_steps": recipe.save_steps, "updates": counts.updates},
        )


@_rule(
    "best-model-mismatch",
    "eval_strategy",
    "eval_steps",
    "logging_steps",
    "save_strategy",
    "save_steps",
    "load_best_model_at_end",
)
def _best_model_mismatch(plan):
    recipe = plan.recipe
    if not plan.value("load_best_model_at_end"):
        return
    evaluate, save, each, kept = (
        recipe.eval_strategy,
        recipe.save_strategy,
        recipe.eval_steps or recipe.logging_steps,
        recipe.save_steps,
    )
    evidence = {
        "eval_strategy": evaluate,
        "save_strategy": save,
        "eval_steps": each,
        "save_steps": kept,
    }
    if evaluate != save:
        strategy = evaluate if evaluate != "no" else "epoch"
        when = {"no": "never", "epoch": "once an epoch"}
        evaluates, saves = (
            when.get(how, f"every {shown(every)} updates")
            for how, every in ((evaluate, each), (save, kept))
        )
        message = f"load_best_model_at_end, but the run evaluates {evaluates} and saves {saves}: transformers stops"
        also = f", eval_strategy={strategy}" if evaluate == "no" else ""
        also += f", save_steps={shown(each)}" if strategy == "steps" else ""
        yield (
            "error",
            "load_best_model_at_end",
            message,
            f"set save_strategy={strategy}{also}",
            evidence,
        )
    elif evaluate == "steps" and not _is_multiple(kept, each):
        message = f"load_best_model_at_end, but save_steps {shown(kept)} is no multiple of eval_steps {shown(each)}: transformers stops"
        nearest = max(round(kept / each), 1) * each if each >= 1 and kept >= 1 else each
        yield "error", "save_steps", message, f"set save_steps={shown(nearest)}", evidence


def _is_multiple(kept: float, each: float) -> bool:
    """As transformers 5.23 decides it: whole numbers among themselves, and shares to a millionth."""
    if (kept < 1) != (each < 1):
        return kept % each == 0
    return kept % each == 0 or (each < 1 and (kept * 1_000_000) % (each * 1_000_000) == 0)


@_rule("accumulation-miscounts-loss", "head", "gradient_accumulation_steps")
def _accumulation_miscounts(plan):
    accumulation = plan.recipe.gradient_accumulation_steps
    mended = (
        getattr(plan.model.source, "accepts_loss_kwargs", None) is False
    )  # as the change below has it
    if accumulation > 1 and not mended and miscounts_loss(plan.head):
        yield (
            "error",
            "gradient_accumulation_steps",
            f"{plan.head.__name__} averages over each micro-batch while the Trainer takes its loss for already divided by the whole: "
            f"loss and gradient come out {accumulation} times too large (huggingface/transformers issue 47688)",
            "set gradient_accumulation_steps=1 with a larger per_device_train_batch_size, or put `model.accepts_loss_kwargs = False` "
            "before the Trainer is made",
            {"factor": accumulation, "head": plan.head.__name__},
        )


def miscounts_loss(head: type) -> bool:
    """Whether the installed transformers multiplies this head's loss by the accumulation.

    Its Trainer divides by all the labels of an update, if `forward` takes any keyword, and trusts the head to do so. A
    head whose source hands those keywords on to its loss does. Question answering has no `labels` to count.
    """
    takes = getattr(head, "accepts_loss_kwargs", None)
    if takes is None:
        takes = any(
            p.kind is p.VAR_KEYWORD for p in inspect.signature(head.forward).parameters.values()
        )
    if not takes or head.__name__.endswith("ForQuestionAnswering"):
        return False
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(head.forward))))
    except (OSError, TypeError, SyntaxError):  # a class without source: nothing can be told
        return False
    losses = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and "loss" in ast.unparse(node.func)
    ]
    return bool(losses) and not any(
        keyword.arg in (None, "num_items_in_batch") for call in losses for keyword in call.keywords
    )


@_rule("bf16-weights-without-masters", "learning_rate")
def _no_masters(plan):
    if plan.dtype != "bfloat16":
        return
    live = (
        plan.model.source if plan.model and hasattr(plan.model.source, "named_parameters") else None
    )
    share = _unmoved_live(live, plan.peak) if live else unmoved_share(plan.peak)
    whose = "the model's weights" if live else "weights of a usual size (spread 0.02)"
    fix = (
        "set dtype=float32"
        if plan.ours
        else "load the model with dtype=torch.float32; from_pretrained keeps the file's format"
    )
    yield (
        "error" if share >= 0.5 else "warning",
        "dtype" if plan.ours else None,
        f"the weights are bf16 without fp32 copies: a step of {shown_rate(plan.peak)} leaves {share:.0%} of {whose} where they are",
        f"{fix}; bf16=true multiplies in bf16 all the same",
        {"unmoved_share": share, "step": plan.peak},
    )


def unmoved_share(step: float, spread: float = 0.02) -> float:
    """The share of normal weights with this standard deviation that `step`, in bf16, rounds away.

    bf16 keeps 8 significant bits, so a weight of at least 2^k stays where it is if the step is below 2^k / 2^8.
    """
    power = math.floor(math.log2(step * 256)) + 1
    return math.erfc(2.0**power / (spread * math.sqrt(2)))


def _unmoved_live(model, step: float) -> float:
    """The share of the model's bf16 weights, at most a million of them, that stay equal when `step` is taken off."""
    import torch

    kept = [
        weight.detach().flatten() for weight in model.parameters() if weight.dtype is torch.bfloat16
    ]
    stride = max(sum(weight.numel() for weight in kept) // 1_000_000, 1)
    same = torch.cat([(weight[::stride] - step == weight[::stride]).cpu() for weight in kept])
    return same.float().mean().item()


@_rule("bf16-emulated", "machine", "bf16")
def _bf16_emulated(plan):
    machine = plan.machine
    if not plan.value("bf16") or machine.native_bf16:
        return
    if machine.device == "cuda":
        message = f"{machine.name} has no bf16 hardware, which comes with compute capability 8.0: torch emulates it, slowly"
        yield (
            "warning",
            "bf16",
            message,
            "set bf16=false, fp16=true: fp16 is native there, and the Trainer scales the loss",
            {"native_bf16": False},
        )
    else:
        message = f"{machine.name} emulates bf16: results are right, but no faster than fp32, and still rounded to 8 significant bits"
        yield "hint", "bf16", message, "set bf16=false", {"native_bf16": False}


@_rule("bf16-without-use-cpu", "machine", "bf16", "use_cpu")
def _bf16_without_use_cpu(plan):
    if (
        plan.machine.device == "cpu"
        and plan.value("bf16")
        and not plan.value("use_cpu")
        and not plan.ours
    ):
        message = "bf16 on a machine with 0 GPUs: transformers stops, unless it is told that the CPU is meant"
        yield "error", "bf16", message, "set use_cpu=true", {"gpus": 0}


@_rule("fp16-on-cpu", "machine", "fp16")
def _fp16_on_cpu(plan):
    if plan.value("fp16") and plan.machine.device == "cpu":
        message = "fp16 on a CPU: transformers trains in fp32 without saying so, 4 bytes a number and not 2"
        yield "error", "fp16", message, "set fp16=false, bf16=true", {"bytes": 4}


@_rule("both-halves", "bf16", "fp16")
def _both_halves(plan):
    if plan.value("bf16") and plan.value("fp16"):
        message = (
            "bf16 and fp16 are both true, and a run multiplies in 1 format: transformers stops"
        )
        yield "error", "fp16", message, "set fp16=false", {"formats": 2}


@_rule("no-half-precision", "machine", "bf16", "fp16")
def _no_half(plan):
    machine = plan.machine
    if (
        plan.value("bf16")
        or plan.value("fp16")
        or plan.dtype != "float32"
        or not (machine.native_bf16 or machine.device == "cuda")
    ):
        return
    half = "bf16" if machine.native_bf16 else "fp16"
    message = f"bf16 and fp16 are both false: {machine.name} multiplies 4-byte numbers, and has hardware for the 2 bytes of {half}"
    yield "hint", half, message, f"set {half}=true; the weights stay fp32", {"bytes": 4}


@_rule("paged-on-cpu", "machine", "optim")
def _paged_on_cpu(plan):
    optim = plan.value("optim")
    if "paged" in optim and plan.machine.device != "cuda":
        message = f"{optim} moves optimizer states out of GPU memory when it is full, and {plan.machine.name} has 0 bytes of it"
        yield (
            "warning",
            "optim",
            message,
            f"set optim={optim.removeprefix('paged_')}",
            {"gpu_bytes": 0},
        )


@_rule("8bit-saves-little", "model", "optim")
def _eight_bit_saves_little(plan):
    if plan.recipe.optim not in EIGHT_BIT_ADAMW or plan.dtype not in ("float32", "bfloat16"):
        return
    held = sum(state.bytes for state in optimizer_states(plan.parameters, plan.recipe.optim))
    plain = sum(
        state.bytes for state in optimizer_states(plan.parameters, "adamw_torch", plan.dtype)
    )
    count = sum(parameter.elements for parameter in plan.parameters)
    weights = count * (4 if plan.dtype == "float32" else 2)
    total = (
        plan.memory.total - plan.memory.optimizer + plain if plan.memory else 2 * weights + plain
    )
    if plain - held < 0.1 * total:
        full = sum(p.elements for p in plan.parameters if p.embedding or p.elements < 4096)
        activations = (
            f", and activations take {shown_bytes(plan.memory.activations)}"
            if plan.memory and plan.memory.activations
            else ""
        )
        yield (
            "hint",
            "optim",
            f"8-bit states save {shown_bytes(plain - held)}, {(plain - held) / total:.0%} of the {shown_bytes(total)} that AdamW needs: "
            f"{full / count:.0%} of the parameters, embeddings and small tensors, stay at 32 bits{activations}",
            "set optim=adamw_torch_fused, which is faster",
            {"bytes_per_parameter": held / count, "saved": plain - held, "of": total},
        )


@_rule("length-beyond-data", "lengths")
def _length_beyond(plan):
    limit, lengths = plan.max_length, sorted(plan.lengths)
    if not limit or not lengths:
        return
    long = lengths[min(math.ceil(0.99 * len(lengths)), len(lengths)) - 1]
    if limit > 2 * long:
        filled = sum(min(length, limit) for length in lengths) / (limit * len(lengths))
        message = f"{limit} tokens a sequence, and 99 % of the documents have at most {long}: {1 - filled:.0%} would be padding"
        yield (
            "warning",
            plan.length_argument,
            message,
            f"set {plan.length_argument}={long}, or pack",
            {"p99": long, "padding": 1 - filled},
        )


@_rule("length-cuts-tokens", "lengths")
def _length_cuts(plan):
    limit, tokens = plan.max_length, sum(plan.lengths)
    if not limit or not tokens:
        return

    def cut(length: int) -> float:
        return sum(max(document - length, 0) for document in plan.lengths) / tokens

    if cut(limit) > 0.01:
        # hpkit packs: what stands beyond comes in a sequence of its own.
        severity, lost = (
            ("hint", "follow in another sequence, apart")
            if plan.ours
            else ("warning", "are cut off")
        )
        enough = next(length for length in sorted(plan.lengths) if cut(length) <= 0.01)
        fix = f"set {plan.length_argument}={enough}"
        if plan.context and enough > plan.context:
            fix = f"the model's context is {plan.context} tokens and {enough} would be needed: cut the documents where they make sense"
        message = f"{cut(limit):.1%} of the tokens stand beyond token {limit} of their document and {lost}"
        yield severity, plan.length_argument, message, fix, {"cut": cut(limit), "enough": enough}


@_rule(
    "memory-over-free", "memory", "machine", "per_device_train_batch_size", "optim", "bf16", "fp16"
)
def _memory_over_free(plan):
    held, free, batch = (
        plan.memory,
        plan.machine.memory_free,
        plan.recipe.per_device_train_batch_size,
    )
    if free is None or held.total <= free:
        return
    parts = ", ".join(
        f"{part} {shown_bytes(count)}" for part, count in held._asdict().items() if count
    )
    message = f"a full fine-tune needs {shown_bytes(held.total)} ({parts}), and {plan.machine.name} has {shown_bytes(free)} free"
    left = free - (held.total - held.activations)
    fits = math.floor(batch * left / held.activations) if left > 0 and held.activations else 0
    if fits:
        fix = f"set per_device_train_batch_size={fits}, and gradient_accumulation_steps={math.ceil(batch / fits)} for about the same update"
    elif left > 0:
        recompute = next(
            name
            for name in ("activation_checkpointing", "gradient_checkpointing")
            if name in training_argument_names()
        )
        fix = f"set max_seq_length lower, or {recompute}=true in TrainingArguments, which computes activations twice and keeps few"
    else:
        eight_bit = "" if plan.recipe.optim in EIGHT_BIT_ADAMW else "optim=adamw_8bit, "
        fix = f"no batch fits: take {eight_bit}a smaller model, LoRA, or a larger device"
    yield "error", "per_device_train_batch_size", message, fix, held._asdict() | {"free": free}


@_rule("invalid-value")
def _invalid_value(plan):
    for argument, value in plan.invalid.items():
        if (argument, value) in (
            ("save_strategy", "best"),
            ("max_steps", 0),
        ):  # right in transformers, though no Recipe takes it
            continue
        hint = (
            did_you_mean(value, CARDS[argument].expected.removeprefix("one of ").split(", "))
            if isinstance(value, str)
            else ""
        )
        message = f"{argument} is {shown(value) if isinstance(value, (bool, int, float, str)) else repr(value)}{hint}"
        yield "error", argument, message, f"give {CARDS[argument].expected}", {"value": repr(value)}
    optim = plan.given.get("optim", "sgd")
    if "optim" not in plan.invalid and optim not in optimizer_names():
        near = did_you_mean(optim, optimizer_names()) or "; adamw_torch_fused is the default"
        yield (
            "error",
            "optim",
            f"transformers has no optimizer {optim}",
            f"take another{near}",
            {"value": repr(optim)},
        )


@_rule("removed-argument")
def _removed_argument(plan):
    if plan.live or plan.name.endswith("Trainer"):
        return
    known = training_argument_names() if plan.name in TRANSFORMERS_ARGUMENTS else None
    for argument in plan.named:
        if argument not in known if known else argument in SUCCESSORS:
            in_trl = argument == "max_seq_length" and plan.name.endswith("Config")
            text = "max_length={}" if in_trl else SUCCESSORS.get(argument)
            message = f"transformers {importlib.metadata.version('transformers')} has no argument {argument}: the call is a TypeError"
            fix = (
                instead(text, plan.given.get(argument, "…"))
                if text
                else f"leave it out{did_you_mean(argument, known)}"
            )
            yield "error", argument, message, fix, {"successor": text}


@_rule("moved-argument")
def _moved_argument(plan):
    for argument in plan.named if plan.name.endswith("Trainer") else ():
        if argument in MOVED_FROM_TRAINER:
            # Unsloth patches TRL's trainers so that they take these again.
            severity, unless = (
                ("error", "")
                if plan.name in ("Trainer", "Seq2SeqTrainer")
                else ("warning", ", unless Unsloth patches it")
            )
            message = f"{plan.name} takes no {argument} since transformers 5 and TRL 1: the call is a TypeError{unless}"
            yield (
                severity,
                argument,
                message,
                instead(MOVED_FROM_TRAINER[argument], plan.given.get(argument, "…")),
                {},
            )


@_rule("deprecated-argument")
def _deprecated_argument(plan):
    for argument in [old for old in DEPRECATED if old in plan.given and not plan.live]:
        if DEPRECATED[argument].partition("=")[0] in training_argument_names():
            message = f"{argument} has a new name, and goes with transformers 6"
            fix = instead(DEPRECATED[argument], plan.given[argument])
            yield "warning", argument, message, fix, {"successor": DEPRECATED[argument]}


@_rule("constant-with-warmup", "lr_scheduler_type", "warmup_steps")
def _constant_with_warmup(plan):
    schedule, warmup = plan.recipe.lr_scheduler_type, plan.recipe.warmup_steps
    if schedule in WITHOUT_WARMUP and warmup > 0:
        fix = (
            "set warmup_steps=0"
            if schedule in MEASURED
            else "set lr_scheduler_type=constant_with_warmup"
        )
        message = f"the schedule {schedule} ignores warmup_steps {shown(warmup)}: the first update has the full learning rate"
        yield "warning", "lr_scheduler_type", message, fix, {"warmup_steps": warmup}


@_rule("polynomial-below-end", "lr_scheduler_type", "lr_scheduler_kwargs", "learning_rate")
def _polynomial_below_end(plan):
    rate, lowest = (
        plan.recipe.learning_rate,
        (plan.recipe.lr_scheduler_kwargs or {}).get("lr_end", 1e-7),
    )
    if (
        plan.recipe.lr_scheduler_type == "polynomial"
        and isinstance(lowest, (int, float))
        and rate <= lowest
    ):
        message = f"polynomial falls to lr_end {shown_rate(lowest)}, and learning_rate is {shown_rate(rate)}: transformers stops"
        fix = f"set learning_rate above {shown_rate(lowest)}, or a lower lr_end in lr_scheduler_kwargs"
        yield "error", "learning_rate", message, fix, {"lr_end": lowest, "learning_rate": rate}


@_rule("weight-decay-negligible", "counts", "weight_decay", *RATES)
def _weight_decay_negligible(plan):
    decay, rates = plan.recipe.weight_decay, plan.counts.learning_rates[:-1]
    shrunk = 1 - math.prod(1 - rate * decay for rate in rates)
    if 0 < decay and rates and 0 <= shrunk < 0.01:
        needed = decay * 0.01 / shrunk if shrunk else math.inf
        message = f"weight_decay {decay:g} shrinks a weight by {100 * shrunk:.2g} % in all {len(rates):,} updates together"
        fix = "set weight_decay=0, which does the same" + (
            f"; about {needed:.2g} would take 1 %" if needed < 10 else ""
        )
        yield "hint", "weight_decay", message, fix, {"shrunk": shrunk, "updates": len(rates)}


@_rule(
    "batch-without-rate",
    "learning_rate",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
)
def _batch_without_rate(plan):
    base = plan.base or (None if plan.live else Recipe())
    if base is None or (
        not plan.live and ("learning_rate" in plan.given or plan.name not in TRANSFORMERS_ARGUMENTS)
    ):
        return
    recipe = plan.recipe
    now = recipe.per_device_train_batch_size * recipe.gradient_accumulation_steps * plan.processes
    before = base.per_device_train_batch_size * base.gradient_accumulation_steps
    if recipe.learning_rate == base.learning_rate and not 0.25 < now / before < 4:
        rate = recipe.learning_rate * math.sqrt(now / before)
        yield (
            "warning",
            "learning_rate",
            f"an update sees {now:,} examples instead of {before:,}, and the learning rate is still {shown_rate(base.learning_rate)}",
            f"set learning_rate={rate:.2g}, by the square root rule for Adam (arXiv 2205.10287), and try its neighbours",
            {"effective_batch": now, "before": before, "learning_rate": recipe.learning_rate},
        )


@_rule("seed-after-model", "seed")
def _seed_after_model(plan):
    if plan.unseeded and "seed" in plan.given:
        message = f"{plan.unseeded} draws random weights before the Trainer sets seed {plan.recipe.seed}: two runs start from different weights"
        fix = f"put transformers.set_seed({plan.recipe.seed}) before it"
        yield "warning", "seed", message, fix, {"seed": plan.recipe.seed}


@_rule("disk-filled", "counts", "save_strategy", "save_steps", "save_total_limit")
def _disk_filled(plan):
    kept = len(plan.counts.checkpoints)
    size, free = None, None
    if plan.model is not None and plan.dtype in ("float32", "bfloat16"):
        try:
            states = sum(
                state.bytes
                for state in optimizer_states(plan.parameters, plan.recipe.optim, plan.dtype)
            )
            size = (
                sum(p.elements for p in plan.parameters) * (4 if plan.dtype == "float32" else 2)
                + states
            )
        except BadInput:  # an optimizer whose states nobody predicts
            pass
    if plan.machine not in MACHINES.values():  # the run is to be here
        out = Path(str(plan.given.get("output_dir") or ".")).absolute()
        free = shutil.disk_usage(
            next(folder for folder in (out, *out.parents) if folder.is_dir())
        ).free
    over = bool(size and free and kept * size > free)
    if kept > 10 or over:
        sized = f", {shown_bytes(size)} each: {shown_bytes(kept * size)}" if size else ""
        against = f"; {shown_bytes(free)} are free" if over else ""
        message = f"{kept} checkpoints stay on disk{sized}{against}"
        fix = (
            "set save_total_limit=2"
            if not over or 3 * size < free
            else "set save_strategy=no, and find room"
        )
        yield (
            "error" if over else "warning",
            "save_total_limit",
            message,
            fix,
            {"checkpoints": kept, "bytes": kept * size if size else None},
        )
