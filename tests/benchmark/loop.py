"""The bare PyTorch loop that hpkit is held against, and the meter that every side is read by.

A machine with a GPU may have neither ipywidgets nor JupyterLab: nothing here asks for them.
"""

import itertools
import time

from benchmark.job import SAME, SETUPS, WARM_UP, Job
from hpkit.capability import forget_32bit_overrides
from hpkit.recipe import STARTER, Recipe


class Meter:
    """Counts and times updates in the same way for every side: from the beginning of one to the
    beginning of a later one.

    What is counted stays on the device until the end, so that counting makes nobody wait.
    """

    def __init__(self, device: str, updates: int):
        self.device = device
        self.timed = slice(WARM_UP, WARM_UP + updates)
        self.useful = []
        self.computed = []
        self.losses = []
        self.times = []
        self.peak = 0

    def begin(self, batch) -> None:
        from hpkit.measured_memory import peak_memory_bytes

        if len(self.useful) in (self.timed.start, self.timed.stop):
            synchronize(self.device)
            self.times.append(time.perf_counter())
            self.peak = peak_memory_bytes(self.device)
        # The first label of a row is nobody's target: a causal model predicts the next token.
        self.useful.append((batch["labels"][..., 1:] != -100).sum())
        self.computed.append(batch["input_ids"].numel())

    def read(self) -> dict:
        """Of the timed updates: seconds, useful tokens, computed tokens; and the peak of memory
        until their end."""
        began, ended = self.times
        return {
            "seconds": ended - began,
            "useful": sum(int(count) for count in self.useful[self.timed]),
            "computed": sum(self.computed[self.timed]),
            "peak_memory_bytes": self.peak,
        }


def synchronize(device: str) -> None:
    """Wait for what the GPU has been told: without, a clock would time the telling."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def make_optimizer(model, recipe: Recipe):
    """The optimizer of the recipe without the Trainer: the same groups of weights, the same states
    at 32 bits."""
    import bitsandbytes
    import torch

    decayed = [p for name, p in model.named_parameters() if "norm" not in name]
    rest = [p for name, p in model.named_parameters() if "norm" in name]
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    forget_32bit_overrides()
    if recipe.optim == "adamw_8bit":
        # As the Trainer does it: embeddings keep averages of 32 bits.
        manager = bitsandbytes.optim.GlobalOptimManager.get_instance()
        manager.register_module_override(model.model.embed_tokens, "weight", {"optim_bits": 32})
        return bitsandbytes.optim.AdamW(groups, lr=1e-4, optim_bits=8)
    return torch.optim.AdamW(groups, lr=1e-4, fused=True)


def bare_updates(job: Job, corpus: str, length: int, meter: Meter):
    """The bare loop, for ever: makes an update and gives the optimizer."""
    import torch
    from transformers import default_data_collator, set_seed

    from hpkit.corpus import encode, load_corpus, pack
    from hpkit.model import load_model

    model, tokenizer = load_model(job.model)
    model.config.use_cache = False
    model.to(job.device).train()
    optimizer = make_optimizer(model, Recipe(**SETUPS[job.setup], **SAME))
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(job.setup[:4])
    scaler = torch.amp.GradScaler(job.device, enabled=half is torch.float16)
    set_seed(STARTER.seed)
    loader = torch.utils.data.DataLoader(
        pack(encode(load_corpus(corpus), tokenizer)[0], length),
        batch_size=8,
        shuffle=True,
        collate_fn=default_data_collator,
        pin_memory=job.device == "cuda",
    )
    for batch in itertools.chain.from_iterable(itertools.repeat(loader)):
        batch = {name: tensor.to(job.device, non_blocking=True) for name, tensor in batch.items()}
        meter.begin(batch)
        with torch.autocast(job.device, half, enabled=half is not None):
            loss = model(**batch).loss
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), SAME["max_grad_norm"])
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        # A float of it would make the CPU wait for the GPU after every update.
        meter.losses.append(loss.detach())
        yield optimizer
