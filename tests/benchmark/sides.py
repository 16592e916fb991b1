"""What one process measures: a side, the optimizers alone, or hpkit and the bare loop in turns."""

import importlib
import importlib.util
import statistics
import time

from benchmark.job import (
    BARE,
    CHECKED,
    CORPUS,
    HPKIT,
    SAME,
    SETUPS,
    SIDES,
    WARM_UP,
    WRAPPED,
    Job,
    needs_trl,
)
from benchmark.loop import Meter, bare_updates, make_optimizer, synchronize
from hpkit.capability import forget_32bit_overrides
from hpkit.recipe import STARTER, Recipe


def measure(job: Job) -> dict:
    """What `job` asks for, by name: all of it numbers, dictionaries and lists."""
    quiet()
    match job.task:
        case "side":
            return measure_side(job)
        case "optimizers":
            return measure_optimizers(job)
        case "in turns":
            return measure_in_turns(job)
    raise ValueError(f"task: expected side, optimizers or in turns, got {job.task!r}")


def quiet() -> None:
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


# One side.


def measure_side(job: Job) -> dict:
    """A round of updates, and where asked the losses on the batch that all sides share."""
    import psutil

    from hpkit.measured_memory import optimizer_state_bytes

    # What a side must load is part of no side's memory: all of it is there before the first look.
    libraries = ["bitsandbytes", "datasets"]
    if needs_trl(job.side):
        libraries.append("trl")
    for library in libraries:
        if importlib.util.find_spec(library):
            importlib.import_module(library)
    idle = 0 if job.device == "cuda" else psutil.Process().memory_info().rss
    meter = Meter(job.device, job.updates)
    # One more update than is timed: the last one timed ends where the next begins.
    state = train_side(job, meter, CORPUS, job.length, WARM_UP + job.updates + 1)
    result = meter.read()
    result["updates"] = job.updates
    result["idle_memory_bytes"] = idle
    result["optimizer_state_bytes"] = {
        dtype: kept["bytes"] for dtype, kept in optimizer_state_bytes(state).items()
    }
    result["losses"] = losses_on_the_shared_batch(job) if job.check else []
    return result


def losses_on_the_shared_batch(job: Job) -> list[float]:
    """As many first tunes as fit in a batch and in one block: packed or padded, they are the same
    documents."""
    from hpkit.corpus import encode, load_corpus
    from hpkit.model import load_tokenizer, read_config

    context = read_config(job.model).max_position_embeddings
    documents = encode(load_corpus(CORPUS), load_tokenizer(job.model))[0]
    count = 0
    length = 0
    for document in documents[:8]:
        if length + len(document) > context:
            break
        count += 1
        length += len(document)
    meter = Meter(job.device, CHECKED)
    train_side(job, meter, f"{CORPUS}:{count}", length, CHECKED)
    return [float(loss) for loss in meter.losses]


def train_side(job: Job, meter: Meter, corpus: str, length: int, updates: int) -> dict:
    """Train by the side that `job` names, the meter looking on; returns the optimizer's states."""
    from transformers import Trainer

    if job.side == BARE:
        bare = bare_updates(job, corpus, length, meter)
        for _ in range(updates):
            optimizer = next(bare)
        return optimizer.state
    train = train_hpkit if job.side == HPKIT else train_rival
    original = Trainer.training_step  # through which SFTTrainer goes as well

    def metered(self, model, inputs, *arguments, **named):
        meter.begin(inputs)
        loss = original(self, model, inputs, *arguments, **named)
        meter.losses.append(loss.detach())
        return loss

    Trainer.training_step = metered
    try:
        return train(job, corpus, length, updates)
    finally:
        Trainer.training_step = original


def train_hpkit(job: Job, corpus: str, length: int, updates: int) -> dict:
    from hpkit.finetune import trained

    recipe = STARTER.replace(
        max_seq_length=length, max_steps=updates, warmup_steps=0, **SETUPS[job.setup], **SAME
    )
    return trained(recipe, job.model, corpus).optimizer.state


def train_rival(job: Job, corpus: str, length: int, updates: int) -> dict:
    """transformers' Trainer or TRL's SFTTrainer, made as their documentation makes them."""
    import datasets

    from hpkit.corpus import load_corpus
    from hpkit.model import load_model

    datasets.disable_progress_bars()
    forget_32bit_overrides()
    model, tokenizer = load_model(job.model)
    arguments = dict(
        output_dir=job.folder,
        per_device_train_batch_size=8,
        max_steps=updates,
        use_cpu=job.device == "cpu",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **SETUPS[job.setup],
        **SAME,
    )
    if needs_trl(job.side):
        arguments |= packing_arguments(job.side, length)
        trainer = trl_trainer(model, tokenizer, load_corpus(corpus), arguments)
    else:
        trainer = plain_trainer(model, tokenizer, load_corpus(corpus), arguments)
    trainer.train()
    return trainer.optimizer.state


def plain_trainer(model, tokenizer, corpus, arguments: dict):
    from datasets import Dataset
    from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

    from hpkit.corpus import encode
    from hpkit.model import context_length

    context = context_length(model)
    rows = [{"input_ids": document[:context]} for document in encode(corpus, tokenizer)[0]]
    return Trainer(
        model,
        TrainingArguments(**arguments),
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )


def trl_trainer(model, tokenizer, corpus, arguments: dict):
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    # The beginning mark is text here, so that all sides train on the same tokens; TRL adds the end
    # mark.
    texts = [tokenizer.bos_token + document for document in corpus.split()[0]]
    return SFTTrainer(
        model,
        SFTConfig(**arguments),
        train_dataset=Dataset.from_dict({"text": texts}),
        processing_class=tokenizer,
    )


def packing_arguments(side: str, length: int) -> dict:
    """SFTConfig's, for blocks as hpkit's; nothing for the side that keeps TRL's defaults."""
    if not SIDES[side].packed:
        return {}
    return dict(
        packing=True,
        packing_strategy="wrapped" if side == WRAPPED else "bfd",
        max_length=length,
        gradient_checkpointing=False,
    )


# Two in one process.


def measure_in_turns(job: Job) -> dict[str, list[float]]:
    """Seconds of each update of hpkit and of the bare loop, one of these after one of those, both
    with models of their own."""
    from transformers import Trainer

    from hpkit.measured_memory import optimizer_state_bytes

    bare = bare_updates(job, CORPUS, job.length, Meter(job.device, 0))
    # Its states are made here: bitsandbytes has one list for both of what to keep at 32 bits.
    optimizer = next(bare)
    seconds = {HPKIT: [], BARE: []}
    began = None
    original = Trainer.training_step

    def after_the_bare_loop(self, model, inputs, *arguments, **named):
        nonlocal began
        synchronize(job.device)
        now = time.perf_counter()
        # hpkit's update before: forward to optimizer, and all that stands around it.
        if began is not None:
            seconds[HPKIT].append(now - began)
        next(bare)
        synchronize(job.device)
        began = time.perf_counter()
        seconds[BARE].append(began - now)
        return original(self, model, inputs, *arguments, **named)

    Trainer.training_step = after_the_bare_loop
    try:
        state = train_hpkit(job, CORPUS, job.length, WARM_UP + job.updates + 1)
    finally:
        Trainer.training_step = original
    held = optimizer_state_bytes(state)
    bare_held = optimizer_state_bytes(optimizer.state)
    if held != bare_held:
        raise RuntimeError(
            f"not the same settings: hpkit holds {held} of optimizer states, the {BARE} {bare_held}"
        )
    # hpkit's last update has no end here, and its partner goes with it.
    timed = slice(WARM_UP, WARM_UP + job.updates)
    return {side: [round(one, 5) for one in taken[timed]] for side, taken in seconds.items()}


def measure_optimizers(job: Job) -> dict[str, dict]:
    """Seconds of a step of 8-bit AdamW and of fused AdamW on the same weights, taken in turns;
    their states held and predicted."""
    import torch

    from hpkit.measured_memory import optimizer_state_bytes
    from hpkit.memory import optimizer_states, parameters_of
    from hpkit.model import load_model

    model = load_model(job.model)[0].to(job.device)
    for weight in model.parameters():
        weight.grad = torch.full_like(weight, 1e-3)
    # The 8-bit one is made last, since making one forgets the overrides of the one before.
    fused = make_optimizer(model, Recipe(optim="adamw_torch_fused"))
    optimizers = {
        "adamw_8bit": make_optimizer(model, Recipe(optim="adamw_8bit")),
        "adamw_torch_fused": fused,
    }
    seconds = {name: [] for name in optimizers}
    for _ in range(WARM_UP + job.updates):
        for name, optimizer in optimizers.items():
            synchronize(job.device)
            began = time.perf_counter()
            optimizer.step()
            synchronize(job.device)
            seconds[name].append(time.perf_counter() - began)
    measured = {}
    for name, optimizer in optimizers.items():
        held = optimizer_state_bytes(optimizer.state)
        predicted = optimizer_states(parameters_of(model), name)
        measured[name] = {
            "seconds": statistics.median(seconds[name][WARM_UP:]),
            "bytes": {dtype: kept["bytes"] for dtype, kept in held.items()},
            "predicted_bytes": sum(state.bytes for state in predicted),
        }
    return measured
