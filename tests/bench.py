"""Speed, as ratios from one run: `make bench`. Not a test: timings of a shared machine prove nothing alone.

Each comparison alternates its two sides and takes medians, so that a busy moment hits both.
"""

import statistics
import subprocess
import sys
import tempfile
import time

import torch
from transformers import TrainerCallback
from transformers.utils import logging

from hpkit.capability import decide, forget_32bit_overrides, probe
from hpkit.corpus import encode, load_corpus, pack
from hpkit.model import load_model
from hpkit.recipe import NOTES, STARTER
from hpkit.records import load_runs
from hpkit.widgets import FormatExplorer, MemoryExplorer, Prediction, RunExplorer, ScheduleExplorer

UPDATES = 50


def make_optimizer(model, recipe):
    """The optimizer of the recipe without the Trainer: the same groups of weights, the same states at 32 bits."""
    import bitsandbytes

    decayed = [p for name, p in model.named_parameters() if "norm" not in name]
    rest = [p for name, p in model.named_parameters() if "norm" in name]
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    forget_32bit_overrides()
    if recipe.optim == "adamw_8bit":
        manager = bitsandbytes.optim.GlobalOptimManager.get_instance()
        manager.register_module_override(model.model.embed_tokens, "weight", {"optim_bits": 32})
        return bitsandbytes.optim.AdamW(groups, lr=1e-4, optim_bits=8)
    return torch.optim.AdamW(groups, lr=1e-4, fused=True)


def bare_loop(recipe, blocks):
    """A function that makes one update of the starter by plain PyTorch, the same arithmetic as the recipe's."""
    model, _ = load_model("starter")
    model.config.use_cache = False
    model.train()
    optimizer = make_optimizer(model, recipe)

    def update(number: int) -> tuple[float, float]:
        """(seconds of the whole update, seconds of the optimizer alone)."""
        rows = [blocks[(number * 8 + i) % len(blocks)] for i in range(8)]
        batch = {name: torch.tensor([row[name] for row in rows]) for name in rows[0]}
        began = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bf16):
            loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.max_grad_norm)
        step = time.perf_counter()
        optimizer.step()
        stepped = time.perf_counter()
        optimizer.zero_grad()
        loss.item()
        return time.perf_counter() - began, stepped - step

    return update


def trainer_against_loop(recipe, blocks, folder) -> tuple[float, float]:
    """Median seconds of an update as hpkit trains, and of one of the bare loop, taken in turns within one run."""
    loop, ours, bare = bare_loop(recipe, blocks), [], []

    class Clock(TrainerCallback):
        left = None

        def on_step_begin(self, args, state, control, **kwargs):
            entered = time.perf_counter()
            if (
                self.left is not None
            ):  # since then the Trainer has made a whole update and fetched the next batch
                ours.append(entered - self.left)
            bare.append(loop(state.global_step)[0])
            self.left = time.perf_counter()

    model, tokenizer = load_model("starter")
    recipe = recipe.replace(
        max_steps=UPDATES + 3, logging_steps=1000, eval_strategy="no", save_strategy="no"
    )
    arguments = recipe.training_arguments(folder, **decide(recipe, probe()).settings)
    forget_32bit_overrides()
    _make_trainer(model, tokenizer, blocks, blocks[:8], arguments, Clock()).train()
    return statistics.median(ours[2:]), statistics.median(bare[2:])


def padded(documents, length: int, to_longest: bool):
    """One tune an example, as without packing: padded to `length`, or to the longest of its batch of eight."""
    rows = [document[:length] for document in documents]
    groups = [rows[i : i + 8] for i in range(0, len(rows) - 7, 8)]
    blocks = []
    for group in groups:
        width = max(map(len, group)) if to_longest else length
        for row in group:
            gap = width - len(row)
            mask = [1] * len(row) + [0] * gap
            blocks.append(
                {"input_ids": row + [0] * gap, "labels": row + [-100] * gap, "attention_mask": mask}
            )
    return blocks


def compare(first, second) -> tuple[float, float]:
    """Median seconds of two update functions, taken in turns after a warm-up."""
    times = ([], [])
    for number in range(UPDATES + 3):
        for side, update in enumerate((first, second)):
            times[side].append(update(number)[0])
    return tuple(statistics.median(side[3:]) for side in times)


def start_up(*command) -> float:
    """Median seconds of a command in a process of its own, over five runs."""
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run([sys.executable, *command], check=True, capture_output=True)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def redraw(explorer, name: str, values) -> float:
    """Median seconds from a control's change to the new picture."""
    seconds = []
    for value in values:
        began = time.perf_counter()
        setattr(explorer, name, value)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def widgets() -> None:
    rates, batches = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2] * 8, [1, 2, 4, 8, 16, 32, 64, 128] * 5
    memory, number = MemoryExplorer(), Prediction("bench", "How much?", tolerance=0.1)
    walk = redraw(memory, "max_seq_length", [16, 32, 64, 128, 256])
    cases = {
        "ScheduleExplorer, 6 updates": redraw(ScheduleExplorer(), "learning_rate", rates),
        "ScheduleExplorer, 13,000 updates": redraw(
            ScheduleExplorer(NOTES.replace(gradient_accumulation_steps=1), 52_000),
            "learning_rate",
            rates,
        ),
        "MemoryExplorer, batch": redraw(memory, "per_device_train_batch_size", batches),
        "FormatExplorer, 32 bits": redraw(
            FormatExplorer(format="fp32"), "value", [k / 7 for k in range(1, 41)]
        ),
        "Prediction, a number": redraw(number, "number", [k / 40 for k in range(40)]),
    }
    began = time.perf_counter()
    runs = load_runs()
    seconds = time.perf_counter() - began
    explorer = RunExplorer("learning_rate", runs)
    cases["RunExplorer, curves"] = redraw(
        explorer, "learning_rate", [3e-5, 3e-4, 1e-3, 3e-3, 1e-2] * 8
    )
    explorer.show = "evaluation loss at the end, along learning_rate"
    cases["RunExplorer, ends"] = redraw(explorer, "warmup_steps", [0, 0.03, 0.1, 0.3, 200] * 8)
    print(f"loading the table of {len(runs)} runs: {seconds:.2f} s (at most 0.3)")
    for name, seconds in cases.items():
        print(f"redraw of {name}: {seconds * 1e3:.0f} ms (at most 50)")
    print(f"redraw of MemoryExplorer, 1B, at a length not seen before: {walk * 1e3:.0f} ms")


def main() -> None:
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    _, tokenizer = load_model("starter")
    documents = encode(load_corpus("airdsAirs"), tokenizer)[0]
    blocks = pack(documents, STARTER.max_seq_length)
    print(
        f"starter on Aird's Airs, 8 x 256 tokens, {torch.get_num_threads()} threads, medians of {UPDATES} updates\n"
    )

    with tempfile.TemporaryDirectory() as folder:
        ours, bare = trainer_against_loop(STARTER, blocks, folder)
    print(
        f"update, hpkit {ours * 1e3:.0f} ms against a bare loop {bare * 1e3:.0f} ms: {ours / bare:.3f} (at most 1.10)\n"
    )

    tokens = {"packed": 8 * STARTER.max_seq_length}
    for name, to_longest in (
        ("padded to 256", False),
        ("padded to the longest of its batch", True),
    ):
        rows = padded(documents, STARTER.max_seq_length, to_longest)[: 8 * (UPDATES + 3)]
        used = [
            sum(sum(row["attention_mask"]) for row in rows[i * 8 : i * 8 + 8])
            for i in range(3, UPDATES + 3)
        ]
        packed, other = compare(bare_loop(STARTER, blocks), bare_loop(STARTER, rows))
        ratio = (tokens["packed"] / packed) / (statistics.mean(used) / other)
        share = statistics.mean(used) / 8 / (sum(len(row["input_ids"]) for row in rows) / len(rows))
        print(
            f"tokens trained per second, packed against {name}: {ratio:.2f} times ({share:.0%} of the padded block is text)"
        )

    print()
    update = bare_loop(STARTER, blocks)
    pairs = [update(number) for number in range(UPDATES)][3:]
    share8 = statistics.median(step for _, step in pairs) / statistics.median(
        whole for whole, _ in pairs
    )
    fused = STARTER.replace(optim="adamw_torch_fused")
    update = bare_loop(fused, blocks)
    pairs = [update(number) for number in range(UPDATES)][3:]
    share = statistics.median(step for _, step in pairs) / statistics.median(
        whole for whole, _ in pairs
    )
    eight, plain = compare(bare_loop(STARTER, blocks), bare_loop(fused, blocks))
    print(f"adamw_8bit against fused AdamW: an update takes {eight / plain:.2f} times as long")
    print(
        f"  the optimizer's share of an update: {share8:.1%} with adamw_8bit, {share:.1%} with fused AdamW"
    )
    half, full = compare(bare_loop(fused, blocks), bare_loop(fused.replace(bf16=False), blocks))
    print(
        f"bf16 against fp32, both with fused AdamW: an update takes {half / full:.2f} times as long\n"
    )

    print(
        f"import hpkit: {start_up('-c', 'import hpkit') - start_up('-c', ''):.3f} s beyond Python's own start (at most 0.3)"
    )
    print(f"hpkit --help: {start_up('-m', 'hpkit', '--help'):.3f} s (at most 0.5)")
    print(
        f"hpkit check of a recipe: {start_up('-m', 'hpkit', 'check', '--recipe', 'starter', '--examples', '700'):.3f} s (at most 0.5)"
    )
    print(
        f"hpkit check of a script: {start_up('-m', 'hpkit', 'check', __file__):.3f} s (at most 0.5)\n"
    )
    widgets()


if __name__ == "__main__":
    main()
