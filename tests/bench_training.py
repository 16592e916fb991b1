"""Training speed and memory, hpkit beside what a person would pick instead: `make bench`, or this file alone.

Each side trains in a process of its own, a few updates a round; the rounds alternate between the sides, so that a busy
moment of the machine hits all of them, and the figures are medians. The sides:

  hpkit                 hpkit's own path, with its packing and its settings of the Trainer
  bare PyTorch loop     the same packed batches and the same arithmetic, nothing around it
  SFTTrainer, packing   TRL's, packing=True with blocks as long as hpkit's, nothing checkpointed: all of a batch becomes one row
  SFTTrainer, wrapped   the same, packing_strategy="wrapped": rows as hpkit's, but documents in a row see one another
  Trainer, defaults     transformers', one tune an example, padded to the longest of its batch of 8
  SFTTrainer, defaults  TRL's, the same examples as text; its default is to checkpoint activations

All get the same model, tunes, precision and optimizer; the first four also the same tokens in a batch. Counted are useful
tokens, those that are text and carry a label: padding is computed and not counted. Then every side makes a few updates on
one batch of the same tunes, and their losses are compared: no speed is bought by training less. Last, hpkit and the bare
loop train in turns in one process, update by update: two processes can differ by more than what hpkit costs.

On a CPU: the starter and a Llama of ten million random weights, bf16 and 8-bit AdamW. On a GPU: the shapes of SmolLM2-135M
and Qwen2.5-0.5B with random weights, 8 x 1,024 tokens; besides bf16 with 8-bit AdamW also fp32, bf16 and fp16 with fused
AdamW. Speed does not depend on what weights say. The figures land in data/benchmarks/, one file a device.
"""

import argparse
import datetime
import importlib.metadata
import importlib.util
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hpkit.capability import decide, forget_32bit_overrides, probe
from hpkit.errors import BadInput
from hpkit.files import data_folder, write_whole
from hpkit.lessons.benchmarks import Benchmark, Measured
from hpkit.recipe import STARTER, Recipe

CORPUS = "airdsAirs"
#: What is the same for every side and changes no speed. A constant rate makes the losses of the sides comparable.
SAME = dict(learning_rate=1e-4, lr_scheduler_type="constant", weight_decay=0.0, max_grad_norm=1.0)
#: Precision and optimizer by name, as the Trainer's arguments.
SETUPS = {
    "bf16 + adamw_8bit": dict(bf16=True, optim="adamw_8bit"),
    "fp32 + AdamW": dict(bf16=False, optim="adamw_torch_fused"),
    "bf16 + AdamW": dict(bf16=True, optim="adamw_torch_fused"),
    "fp16 + AdamW": dict(bf16=False, fp16=True, optim="adamw_torch_fused"),
}
#: The one side that trains something else: a document's first tokens are predicted from the end of the document before.
WRAPPED = "SFTTrainer, wrapped"
BARE = "bare PyTorch loop"
#: Side -> whether it trains on the same packed batches as hpkit, and what it was given.
SIDES = {
    "hpkit": (True, "hpkit.finetune's own path, its packing, its settings of the Trainer"),
    BARE: (
        True,
        "hpkit's packed blocks, DataLoader, autocast, clipping, the same optimizer; no schedule, no log",
    ),
    "SFTTrainer, packing": (
        True,
        "packing=True (bfd), max_length as hpkit's blocks, gradient_checkpointing=False, logging_steps=10",
    ),
    WRAPPED: (
        True,
        "packing=True, packing_strategy='wrapped', else as before; documents see one another, so its loss is another",
    ),
    "Trainer, defaults": (
        False,
        "one tune an example, DataCollatorForLanguageModeling(mlm=False), logging_steps=500",
    ),
    "SFTTrainer, defaults": (
        False,
        "one tune an example, max_length=1024, gradient_checkpointing=True, logging_steps=10",
    ),
}
#: The sides that are measured in every setup; the others in the first one alone.
EVERYWHERE = ("hpkit", BARE)
#: Shapes of random weights. Those of a GPU are their configs' on the hub, read 2026; in a dry run they shrink to `tiny`.
SHAPES = {
    "llama-10m": dict(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=6, num_key_value_heads=6, intermediate_size=1024,
        max_position_embeddings=512, vocab_size=56,
    ),
    "smollm2-135m": dict(
        hidden_size=576, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3, intermediate_size=1536,
        max_position_embeddings=8192, vocab_size=49_152,
    ),
    "qwen2.5-0.5b": dict(
        hidden_size=896, num_hidden_layers=24, num_attention_heads=14, num_key_value_heads=2, intermediate_size=4864,
        max_position_embeddings=32_768, vocab_size=151_936,
    ),
}  # fmt: skip
TINY = dict(
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=128,
    vocab_size=512,
)
MODELS = {"cpu": ("starter", "llama-10m"), "cuda": ("smollm2-135m", "qwen2.5-0.5b")}
#: Dense peaks in FLOP/s (fp32 without tensor cores, which is torch's default; bf16 or fp16 with them) by a part of the name
#: that torch gives the card. NVIDIA's figures for T4, L4, A100, H100 SXM and H200 SXM, read second-hand in 2026; those that
#: count sparsity are halved.
PEAK_FLOPS = {
    "Tesla T4": (8.1e12, 65e12),
    "NVIDIA L4": (30.3e12, 121e12),
    "A100": (19.5e12, 312e12),
    "H100 80GB HBM3": (67e12, 989.5e12),
    "H200": (67e12, 989.5e12),
}
WARM_UP, CHECKED = 3, 5


def flops_per_token(config, parameters: int, document_length: float) -> float:
    """Operations that training needs for one token of text in documents that keep apart.

    Two per weight and token forward, four backward: 6 N, all weights counted once, of which an untied input embedding is
    looked up and not multiplied. Attention: 12 x layers x width x length (Chowdhery et al., PaLM, 2022, appendix B), half
    of it because a token sees only what came before. `document_length`: tokens, the mean over tokens.
    """
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    looked_up = 0 if config.tie_word_embeddings else config.vocab_size * config.hidden_size
    return (
        6 * (parameters - looked_up)
        + 6 * config.num_hidden_layers * config.num_attention_heads * head_dim * document_length
    )


def peak_flops(device_name: str, setup: str) -> float | None:
    """FLOP/s of the card at its best in the setup's precision; None for a card that PEAK_FLOPS does not know."""
    found = next((peaks for part, peaks in PEAK_FLOPS.items() if part in device_name), None)
    return found and found[0 if setup.startswith("fp32") else 1]


def save_random_model(name: str, folder: Path, tiny: bool) -> None:
    """A model of the shape `name` with random weights, and the starter's tokenizer, as `load_model` reads them."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    from hpkit.model import character_tokenizer

    tokenizer = character_tokenizer()
    kinds = (
        (Qwen2Config, Qwen2ForCausalLM)
        if name.startswith("qwen2")
        else (LlamaConfig, LlamaForCausalLM)
    )
    ids = {
        f"{token}_token_id": getattr(tokenizer, f"{token}_token_id")
        for token in ("pad", "bos", "eos")
    }
    torch.manual_seed(0)
    kinds[1](
        kinds[0](**SHAPES[name] | (TINY if tiny else {}), **ids, tie_word_embeddings=True)
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


# One side, in a process of its own.


class Meter:
    """Counts and times updates in the same way for every side: from the beginning of one to the beginning of a later one.

    What is counted stays on the device until the end, so that counting makes nobody wait.
    """

    def __init__(self, device: str, updates: int):
        self.device, self.ends = device, (WARM_UP, WARM_UP + updates)
        self.useful, self.computed, self.losses, self.times, self.peak = [], [], [], [], 0

    def begin(self, batch) -> None:
        from hpkit.measured_memory import peak_memory_bytes

        if len(self.useful) in self.ends:
            synchronize(self.device)
            self.times.append(time.perf_counter())
            self.peak = peak_memory_bytes(self.device)
        self.useful.append((batch["labels"][..., 1:] != -100).sum())
        self.computed.append(batch["input_ids"].numel())

    def read(self) -> dict:
        """Of the timed updates: seconds, useful tokens, computed tokens; and the peak of memory until their end."""
        timed = slice(*self.ends)
        return {
            "seconds": self.times[1] - self.times[0],
            "useful": sum(int(count) for count in self.useful[timed]),
            "computed": sum(self.computed[timed]),
            "peak_memory_bytes": self.peak,
        }


def synchronize(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def trainer_arguments(job: dict, updates: int) -> dict:
    return dict(
        output_dir=job["folder"], per_device_train_batch_size=8, max_steps=updates, use_cpu=job["device"] == "cpu", save_strategy="no",
        report_to="none", disable_tqdm=True, **SETUPS[job["setup"]], **SAME,
    )  # fmt: skip


def train_hpkit(job: dict, corpus: str, length: int, updates: int) -> dict:
    from hpkit.finetune import trained

    recipe = STARTER.replace(
        max_seq_length=length, max_steps=updates, warmup_steps=0, **SETUPS[job["setup"]], **SAME
    )
    return trained(recipe, job["model"], corpus).optimizer.state


def bare_updates(job: dict, corpus: str, length: int, meter: Meter):
    """The bare loop, for ever: makes an update and gives the optimizer."""
    import torch
    from bench import make_optimizer
    from transformers import default_data_collator, set_seed

    from hpkit.corpus import encode, load_corpus, pack
    from hpkit.model import load_model

    device, setup = job["device"], SETUPS[job["setup"]]
    model, tokenizer = load_model(job["model"])
    model.config.use_cache = False
    model.to(device).train()
    optimizer = make_optimizer(model, Recipe(**setup, **SAME))
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(job["setup"][:4])
    scaler = torch.amp.GradScaler(device, enabled=half is torch.float16)
    set_seed(STARTER.seed)
    blocks = pack(encode(load_corpus(corpus), tokenizer)[0], length)
    loader = torch.utils.data.DataLoader(
        blocks,
        batch_size=8,
        shuffle=True,
        collate_fn=default_data_collator,
        pin_memory=device == "cuda",
    )
    epochs = itertools.chain.from_iterable(itertools.repeat(loader))
    for batch in epochs:
        batch = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
        meter.begin(batch)
        with torch.autocast(device, half, enabled=half is not None):
            loss = model(**batch).loss
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), SAME["max_grad_norm"])
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        meter.losses.append(loss.detach())
        yield optimizer


def train_rival(job: dict, corpus: str, length: int, updates: int) -> dict:
    """transformers' Trainer or TRL's SFTTrainer, made as their documentation makes them."""
    import datasets
    from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

    from hpkit.corpus import encode, load_corpus
    from hpkit.model import context_length, load_model

    datasets.disable_progress_bars()
    forget_32bit_overrides()
    model, tokenizer = load_model(job["model"])
    arguments, corpus = trainer_arguments(job, updates), load_corpus(corpus)
    if job["side"] == "Trainer, defaults":
        rows = [
            {"input_ids": document[: context_length(model)]}
            for document in encode(corpus, tokenizer)[0]
        ]
        collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
        trainer = Trainer(
            model,
            TrainingArguments(**arguments),
            collator,
            datasets.Dataset.from_list(rows),
            processing_class=tokenizer,
        )
    else:
        from trl import SFTConfig, SFTTrainer

        # The beginning mark is text here, so that all sides train on the same tokens; TRL adds the end mark.
        texts = datasets.Dataset.from_dict(
            {"text": [tokenizer.bos_token + document for document in corpus.split()[0]]}
        )
        packing = {}
        if SIDES[job["side"]][0]:
            strategy = "wrapped" if job["side"] == WRAPPED else "bfd"
            packing = dict(
                packing=True,
                packing_strategy=strategy,
                max_length=length,
                gradient_checkpointing=False,
            )
        trainer = SFTTrainer(
            model,
            SFTConfig(**arguments, **packing),
            train_dataset=texts,
            processing_class=tokenizer,
        )
    trainer.train()
    return trainer.optimizer.state


def train_side(job: dict, meter: Meter, corpus: str, length: int, updates: int) -> dict:
    """Train by the side that `job` names, with the meter looking on; returns the optimizer's states."""
    from transformers import Trainer

    if job["side"] == BARE:
        return list(itertools.islice(bare_updates(job, corpus, length, meter), updates))[-1].state
    original = Trainer.training_step  # through which SFTTrainer goes as well

    def metered(self, model, inputs, *arguments, **named):
        meter.begin(inputs)
        loss = original(self, model, inputs, *arguments, **named)
        meter.losses.append(loss.detach())
        return loss

    Trainer.training_step = metered
    try:
        return (train_hpkit if job["side"] == "hpkit" else train_rival)(
            job, corpus, length, updates
        )
    finally:
        Trainer.training_step = original


def measure(job: dict) -> dict:
    """What one process measures of one side: a round of updates, and where asked the losses on the batch that all sides share."""
    import psutil

    from hpkit.corpus import encode, load_corpus
    from hpkit.measured_memory import optimizer_state_bytes
    from hpkit.model import load_tokenizer, read_config

    quiet()
    for library in ("bitsandbytes", "datasets", *["trl"] * job["side"].startswith("SFT")):
        importlib.import_module(library)
    idle = 0 if job["device"] == "cuda" else psutil.Process().memory_info().rss
    meter = Meter(job["device"], job["updates"])
    state = train_side(job, meter, CORPUS, job["length"], WARM_UP + job["updates"] + 1)
    result = meter.read() | {"updates": job["updates"], "idle_memory_bytes": idle, "losses": []}
    result["optimizer_state_bytes"] = {
        dtype: kept["bytes"] for dtype, kept in optimizer_state_bytes(state).items()
    }
    if job["check"]:
        # As many first tunes as fit in a batch and in one block: packed or padded, they are the same documents.
        context = read_config(job["model"]).max_position_embeddings
        lengths = [
            len(document)
            for document in encode(load_corpus(CORPUS), load_tokenizer(job["model"]))[0][:8]
        ]
        count = max(number for number in range(1, 9) if sum(lengths[:number]) <= context)
        meter = Meter(job["device"], CHECKED)
        train_side(job, meter, f"{CORPUS}:{count}", sum(lengths[:count]), CHECKED)
        result["losses"] = [float(loss) for loss in meter.losses]
    return result


def measure_in_turns(job: dict) -> dict:
    """Seconds of each update of hpkit and of the bare loop, one of these after one of those, both with models of their own."""
    from transformers import Trainer

    from hpkit.measured_memory import optimizer_state_bytes

    quiet()
    bare = bare_updates(job, CORPUS, job["length"], Meter(job["device"], 0))
    optimizer = next(
        bare
    )  # its states are made here: bitsandbytes has one list for both of what to keep at 32 bits
    seconds, began = {"hpkit": [], BARE: []}, None
    original = Trainer.training_step

    def after_the_bare_loop(self, model, inputs, *arguments, **named):
        nonlocal began
        synchronize(job["device"])
        now = time.perf_counter()
        if (
            began is not None
        ):  # hpkit's update before: forward to optimizer, and all that stands around it
            seconds["hpkit"].append(now - began)
        next(bare)
        synchronize(job["device"])
        began = time.perf_counter()
        seconds[BARE].append(began - now)
        return original(self, model, inputs, *arguments, **named)

    Trainer.training_step = after_the_bare_loop
    try:
        state = train_hpkit(job, CORPUS, job["length"], WARM_UP + job["updates"] + 1)
    finally:
        Trainer.training_step = original
    held, bare_held = optimizer_state_bytes(state), optimizer_state_bytes(optimizer.state)
    if held != bare_held:
        raise RuntimeError(
            f"not the same settings: hpkit holds {held} of optimizer states, the {BARE} {bare_held}"
        )
    # hpkit's last update has no end here, and its partner goes with it.
    return {
        side: [round(one, 5) for one in taken[WARM_UP : WARM_UP + job["updates"]]]
        for side, taken in seconds.items()
    }


def measure_optimizers(job: dict) -> dict:
    """Seconds of a step of 8-bit AdamW and of fused AdamW on the same weights, taken in turns; their states held and predicted."""
    import torch
    from bench import make_optimizer

    from hpkit.measured_memory import optimizer_state_bytes
    from hpkit.memory import optimizer_states, parameters_of
    from hpkit.model import load_model

    quiet()
    model = load_model(job["model"])[0].to(job["device"])
    for weight in model.parameters():
        weight.grad = torch.full_like(weight, 1e-3)
    names = ("adamw_8bit", "adamw_torch_fused")
    optimizers = {
        name: make_optimizer(model, Recipe(optim=name)) for name in reversed(names)
    }  # the 8-bit one's overrides stay
    seconds = {name: [] for name in names}
    for _ in range(WARM_UP + job["updates"]):
        for name in names:
            synchronize(job["device"])
            began = time.perf_counter()
            optimizers[name].step()
            synchronize(job["device"])
            seconds[name].append(time.perf_counter() - began)
    states = {name: optimizer_state_bytes(optimizers[name].state) for name in names}
    predicted = {
        name: sum(state.bytes for state in optimizer_states(parameters_of(model), name))
        for name in names
    }
    return {
        name: {
            "seconds": statistics.median(seconds[name][WARM_UP:]),
            "bytes": {dtype: kept["bytes"] for dtype, kept in states[name].items()},
            "predicted_bytes": predicted[name],
        }
        for name in names
    }


def quiet() -> None:
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


# All sides.


def in_a_process(job: dict) -> dict:
    """What `job` measures in a process of its own. Raises RuntimeError with that process's last words."""
    environment = os.environ | {
        "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    }
    environment.pop("HPKIT_SHORT", None)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "measured.json"
        command = [
            sys.executable,
            __file__,
            "--job",
            json.dumps(job | {"folder": folder, "out": str(out)}),
        ]
        process = subprocess.run(command, env=environment, capture_output=True, text=True)
        if process.returncode or not out.is_file():
            raise RuntimeError(
                (process.stderr.strip().splitlines() or [f"status {process.returncode}"])[-1]
            )
        return json.loads(out.read_text(encoding="utf-8"))


def available(machine) -> tuple[dict[str, str], dict[str, str]]:
    """(setups that hpkit trains on this machine as they are named, those it does not and why)."""
    taken, left_out = {}, {}
    for name, setup in SETUPS.items():
        try:
            used = decide(STARTER.replace(**setup), machine)
        except BadInput as refused:
            left_out[name] = str(refused)
            continue
        changed = [
            str(choice)
            for choice in used.choices
            if choice.what in ("precision", "optimizer") and choice.requested != choice.used
        ]
        if changed:
            left_out[name] = "; ".join(changed)
        else:
            taken[name] = ", ".join(f"{key}={value}" for key, value in setup.items() if value)
    return taken, left_out


def compare_sides(name: str, sides: list[str], job: dict, rounds: int, say) -> tuple[dict, dict]:
    """(side -> its rounds, side -> why it has none): every side once a round, in turns from the front and from the back."""
    results, failed = {side: [] for side in sides}, {}
    for number in range(rounds):
        for side in sides if number % 2 == 0 else sides[::-1]:
            if side in failed:
                continue
            try:
                result = in_a_process(job | {"task": "side", "side": side, "check": number == 0})
            except RuntimeError as error:
                failed[side] = f"failed: {error}"
                say(f"{name}, {side}: {failed[side]}")
                continue
            results[side].append(result)
            rate = result["useful"] / result["seconds"]
            say(
                f"{name}, round {number + 1} of {rounds}, {side}: {rate:,.0f} useful tokens/s, {result['peak_memory_bytes'] / 1e6:,.0f} MB"
            )
    return {side: rows for side, rows in results.items() if side not in failed}, failed


def as_measured(
    side: str,
    rows: list[dict],
    model: str,
    parameters: int,
    setup: str,
    needed: float,
    peak: float | None,
) -> Measured:
    rates = [row["useful"] / row["seconds"] for row in rows]
    return Measured(
        model=model,
        parameters=parameters,
        setup=setup,
        side=side,
        same_settings=SIDES[side][0],
        settings=SIDES[side][1],
        useful_tokens_per_second=[round(rate, 1) for rate in rates],
        peak_memory_bytes=[row["peak_memory_bytes"] for row in rows],
        idle_memory_bytes=[row["idle_memory_bytes"] for row in rows],
        text_share=round(
            sum(row["useful"] for row in rows) / sum(row["computed"] for row in rows), 4
        ),
        update_seconds=round(statistics.median(row["seconds"] / row["updates"] for row in rows), 5),
        flops_utilisation=round(statistics.median(rates) * needed / peak, 4) if peak else None,
        optimizer_state_bytes=rows[0]["optimizer_state_bytes"],
        losses=rows[0]["losses"],
    )


def bench(kind: str, models: list[str], rounds: int, updates: int, dry: bool, say) -> Benchmark:
    """Measure everything on `kind`, cpu or cuda; `say` takes a line of progress. `dry`: tiny shapes, for the code's sake."""
    from hpkit.corpus import encode, load_corpus
    from hpkit.memory import parameters_of
    from hpkit.model import load_tokenizer, read_config

    quiet()
    machine = probe()
    length = 128 if dry else 1024 if models[0] in MODELS["cuda"] else STARTER.max_seq_length
    setups, left_out = available(machine)
    if models[0] not in MODELS["cuda"]:
        left_out |= {name: "measured in the table of a GPU" for name in list(setups)[1:]}
        setups = dict(list(setups.items())[:1])
    sides = list(SIDES)
    if importlib.util.find_spec("trl") is None:
        sides = [side for side in sides if not side.startswith("SFT")]
        left_out["SFTTrainer"] = "trl is not installed: pip install -e .[bench]"
    for name, why in left_out.items():
        say(f"left out: {name}: {why}")
    measured, optimizers, in_turns = [], [], {}
    with tempfile.TemporaryDirectory() as folder:
        for model in models:
            name = model
            if model in SHAPES:
                name = str(Path(folder) / model)
                save_random_model(model, Path(name), dry)
            config = read_config(name)
            parameters = sum(parameter.elements for parameter in parameters_of(config))
            documents = encode(load_corpus(CORPUS), load_tokenizer(name))[0]
            lengths = [min(len(document), length) for document in documents]
            needed = flops_per_token(config, parameters, sum(n * n for n in lengths) / sum(lengths))
            job = {"model": name, "device": kind, "updates": updates, "length": length}
            for number, setup in enumerate(setups):
                taking_part = (
                    sides if number == 0 else [side for side in sides if side in EVERYWHERE]
                )
                rows, failed = compare_sides(
                    f"{model}, {setup}", taking_part, job | {"setup": setup}, rounds, say
                )
                left_out |= {f"{model}, {setup}, {side}": why for side, why in failed.items()}
                peak = peak_flops(machine.name, setup)
                measured += [
                    as_measured(side, found, model, parameters, setup, needed, peak)
                    for side, found in rows.items()
                ]
            try:
                steps = in_a_process(job | {"task": "optimizers"})
                in_turns[model] = in_a_process(
                    job
                    | {"task": "in turns", "setup": next(iter(setups)), "updates": rounds * updates}
                )
            except RuntimeError as error:
                left_out[f"{model}, optimizers alone and in turns"] = f"failed: {error}"
                say(f"{model}, optimizers alone and in turns: failed: {error}")
                continue
            optimizers += [
                {"model": model, "optim": optim} | found for optim, found in steps.items()
            ]
            eight_bit, fused = (
                steps[optim]["seconds"] * 1e3 for optim in ("adamw_8bit", "adamw_torch_fused")
            )
            say(
                f"{model}: a step of adamw_8bit alone {eight_bit:.2f} ms, of fused AdamW {fused:.2f} ms"
            )
            ours, bare = (statistics.median(in_turns[model][side]) * 1e3 for side in EVERYWHERE)
            say(
                f"{model}, in turns: an update of hpkit {ours:.2f} ms, of the bare loop {bare:.2f} ms"
            )
    packages = (
        "torch",
        "transformers",
        "accelerate",
        "bitsandbytes",
        *["trl"] * any(side.startswith("SFT") for side in sides),
    )
    return Benchmark(
        device=machine.name,
        kind=kind,
        threads=machine.threads,
        date=datetime.date.today().isoformat(),
        versions={package: importlib.metadata.version(package) for package in packages},
        rounds=rounds,
        updates=updates,
        sides=measured,
        optimizers=optimizers,
        in_turns=in_turns,
        left_out=left_out,
    )


def table(benchmark: Benchmark) -> str:
    """All figures as text, one row a side; below each comparison what hpkit's rate is beside the others', and the losses."""
    lines = [
        f"{benchmark.device}, {benchmark.threads} threads, {benchmark.date}; "
        + ", ".join(map(" ".join, benchmark.versions.items()))
    ]
    lines += [
        f"medians of {benchmark.rounds} rounds of {benchmark.updates} updates; spread: lowest and highest round",
        "",
    ]
    lines += [f"{side}: {settings}" for side, (_, settings) in SIDES.items()]
    for model, setup in benchmark.comparisons:
        sides = benchmark.of(model, setup)
        first = next(iter(sides.values()))
        lines += ["", f"{model}, {first.parameters / 1e6:,.1f} million parameters, {setup}"]
        lines += [
            f"{'':22}{'useful tok/s':>13}{'spread':>19}{'text':>6}{'update':>10}{'peak':>10}{'idle':>9}{'states':>10}{'MFU':>7}"
        ]
        for side in sides.values():
            low, high = min(side.useful_tokens_per_second), max(side.useful_tokens_per_second)
            used = "?" if side.flops_utilisation is None else f"{side.flops_utilisation:.1%}"
            states = sum(side.optimizer_state_bytes.values())
            lines.append(
                f"{side.side:22}{side.rate:13,.0f}{f'{low:,.0f}-{high:,.0f}':>19}{side.text_share:6.0%}{side.update_seconds * 1e3:7,.0f} ms"
                f"{side.peak / 1e6:7,.0f} MB{statistics.median(side.idle_memory_bytes) / 1e6:6,.0f} MB{states / 1e6:7,.1f} MB{used:>7}"
            )
        if "hpkit" in sides:
            best = benchmark.best_of_the_others(model, setup)
            wanted = {best: 1.0} if best else {}
            wanted |= {name: 1.5 for name, side in sides.items() if not side.same_settings}
            for other, least in wanted.items():
                lines.append(
                    f"hpkit against {other}: {benchmark.ratio(model, setup, other):.2f} times (at least {least} wanted)"
                )
        losses = [side.losses for side in sides.values() if side.side != WRAPPED]
        apart = max(max(column) - min(column) for column in zip(*losses))
        ends = f"losses {losses[0][0]:.4f} to {losses[0][-1]:.4f}, sides at most {apart:.1g} apart"
        if WRAPPED in sides:
            ends += f"; {WRAPPED}, whose documents see one another: {sides[WRAPPED].losses[0]:.4f} to {sides[WRAPPED].losses[-1]:.4f}"
        lines.append(f"the same tunes, {CHECKED} updates: {ends}")
    lines.append("")
    for model, seconds in benchmark.in_turns.items():
        ours, bare = (f"{statistics.median(seconds[side]) * 1e3:,.2f} ms" for side in EVERYWHERE)
        pairs = f"{len(seconds[BARE])} updates of each in turns"
        lines.append(
            f"{model}, {pairs}: hpkit {ours}, {BARE} {bare}; hpkit has {benchmark.ratio_in_turns(model):.3f} times its speed"
        )
    for one in benchmark.optimizers:
        held, predicted = sum(one["bytes"].values()), one["predicted_bytes"]
        lines.append(
            f"{one['model']}, {one['optim']}: a step alone {one['seconds'] * 1e3:.2f} ms, "
            f"states {held / 1e6:,.2f} MB, predicted {predicted / 1e6:,.2f} MB"
        )
    lines += [f"left out: {name}: {why}" for name, why in benchmark.left_out.items()]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="the GPU's table with tiny shapes, in minutes on any CPU; stores nothing",
    )
    parser.add_argument(
        "--models",
        nargs="+",
        choices=["starter", *SHAPES],
        help="default: those of the device, see above",
    )
    parser.add_argument("--rounds", type=int, help="default: 3; in a dry run 1")
    parser.add_argument(
        "--updates",
        type=int,
        help="timed updates a round, after some to warm up; default: 12, in a dry run 2",
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="the file for the figures; default: data/benchmarks/<device>.json; in a dry run, and with --models, none",
    )
    parser.add_argument("--job", help=argparse.SUPPRESS)  # one side, in a process of its own
    options = parser.parse_args()
    if options.job:
        job = json.loads(options.job)
        result = {"side": measure, "optimizers": measure_optimizers, "in turns": measure_in_turns}[
            job["task"]
        ](job)
        write_whole(Path(job["out"]), json.dumps(result))
        return 0
    for name, count in (("--rounds", options.rounds), ("--updates", options.updates)):
        if count is not None and count < 1:
            parser.error(f"{name}: expected 1 or more, got {count}")
    if len({model in MODELS["cuda"] for model in options.models or ()}) > 1:
        parser.error(
            "--models: the shapes of a GPU are measured in longer sequences: take either those, or starter and llama-10m"
        )
    import torch

    dry, kind = options.dry_run, "cuda" if torch.cuda.is_available() else "cpu"
    models = options.models or MODELS["cuda" if dry else kind]
    began = time.perf_counter()

    def say(line: str) -> None:
        print(f"{time.perf_counter() - began:5.0f} s  {line}", flush=True)

    try:
        benchmark = bench(
            kind,
            models,
            options.rounds or (1 if dry else 3),
            options.updates or (2 if dry else 12),
            dry,
            say,
        )
    except KeyboardInterrupt:
        print("stopped: nothing was stored", file=sys.stderr)
        return 130
    print("\n" + table(benchmark))
    whole = not dry and not options.models  # a part would take the place of the whole
    out = options.out or (data_folder() / "benchmarks" / benchmark.file_name if whole else None)
    if out:
        write_whole(out, benchmark.to_json())
        print(f"stored: {out}")
    return int(any(why.startswith("failed") for why in benchmark.left_out.values()))


if __name__ == "__main__":
    sys.exit(main())
