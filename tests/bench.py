"""Speed, as ratios from one run: `make bench`. Not a test: timings of a shared machine prove
nothing alone.

Each comparison alternates its two sides and takes medians, so that a busy moment hits both.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import torch
from benchmark import checking
from benchmark.job import CORPUS
from benchmark.loop import make_optimizer
from benchmark.sides import quiet
from transformers import TrainerCallback

from hpkit.capability import decide, forget_32bit_overrides, probe
from hpkit.corpus import encode, load_corpus, pack
from hpkit.files import data_folder
from hpkit.finetune.training import make_trainer, prepare
from hpkit.model import load_model
from hpkit.recipe import NOTES, STARTER
from hpkit.records import load_grids, load_runs, record_point
from hpkit.records.planning import CHOOSING, FIRST_EDITION
from hpkit.widgets import FormatExplorer, MemoryExplorer, Prediction, RunExplorer, ScheduleExplorer

UPDATES = 50
WARM_UP = 3
BATCH = 8
LENGTH = STARTER.max_seq_length
FUSED = STARTER.replace(optim="adamw_torch_fused")


class Seconds(NamedTuple):
    """Of one update: all of it, and the optimizer's step alone."""

    whole: float
    step: float


def bare_loop(recipe, blocks):
    """A function that makes one update of the starter by plain PyTorch, the same arithmetic as the
    recipe's, and returns its Seconds."""
    model, _ = load_model("starter")
    model.config.use_cache = False
    model.train()
    optimizer = make_optimizer(model, recipe)

    def update(number: int) -> Seconds:
        rows = [blocks[(number * BATCH + i) % len(blocks)] for i in range(BATCH)]
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
        return Seconds(time.perf_counter() - began, stepped - step)

    return update


def trainer_against_loop(recipe, blocks, folder) -> tuple[float, float]:
    """Median seconds of an update as hpkit trains, and of one of the bare loop, taken in turns
    within one run."""
    loop = bare_loop(recipe, blocks)
    ours = []
    bare = []

    class Clock(TrainerCallback):
        left = None

        def on_step_begin(self, args, state, control, **kwargs):
            entered = time.perf_counter()
            # Since it left, the Trainer has made a whole update and fetched the next batch.
            if self.left is not None:
                ours.append(entered - self.left)
            bare.append(loop(state.global_step).whole)
            self.left = time.perf_counter()

    recipe = recipe.replace(
        max_steps=UPDATES + WARM_UP, logging_steps=1000, eval_strategy="no", save_strategy="no"
    )
    job = prepare(recipe, "starter", CORPUS, decide(recipe, probe()), folder)
    forget_32bit_overrides()
    make_trainer(job, [Clock()]).train()
    # The Trainer's last update ends where no other begins: it has one time less than updates.
    first = WARM_UP - 1
    return statistics.median(ours[first:]), statistics.median(bare[first:])


def padded(documents, length: int, to_longest: bool):
    """One tune an example, as without packing: padded to `length`, or to the longest of its batch
    of eight."""
    rows = [document[:length] for document in documents]
    blocks = []
    for start in range(0, len(rows) - BATCH + 1, BATCH):
        group = rows[start : start + BATCH]
        width = max(map(len, group)) if to_longest else length
        for row in group:
            gap = width - len(row)
            block = {
                "input_ids": row + [0] * gap,
                "labels": row + [-100] * gap,
                "attention_mask": [1] * len(row) + [0] * gap,
            }
            blocks.append(block)
    return blocks


def compare(first, second) -> tuple[float, float]:
    """Median seconds of two update functions, taken in turns after a warm-up."""
    times = ([], [])
    for number in range(UPDATES + WARM_UP):
        for taken, update in zip(times, (first, second)):
            taken.append(update(number).whole)
    return statistics.median(times[0][WARM_UP:]), statistics.median(times[1][WARM_UP:])


def share_of_the_optimizer(recipe, blocks) -> float:
    """Of an update of the bare loop: the optimizer's step, 0 to 1."""
    update = bare_loop(recipe, blocks)
    updates = [update(number) for number in range(UPDATES)][WARM_UP:]
    step = statistics.median(one.step for one in updates)
    return step / statistics.median(one.whole for one in updates)


def say_update(blocks) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ours, bare = trainer_against_loop(STARTER, blocks, folder)
    print(
        f"update, hpkit {ours * 1e3:.0f} ms against a bare loop {bare * 1e3:.0f} ms: "
        f"{ours / bare:.3f} (at most 1.10)\n"
    )


def say_packing(documents, blocks) -> None:
    for name, to_longest in (
        ("padded to 256", False),
        ("padded to the longest of its batch", True),
    ):
        rows = padded(documents, LENGTH, to_longest)[: BATCH * (UPDATES + WARM_UP)]
        used = []  # tokens of text in each batch
        for start in range(BATCH * WARM_UP, BATCH * (UPDATES + WARM_UP), BATCH):
            used.append(sum(sum(row["attention_mask"]) for row in rows[start : start + BATCH]))
        packed, other = compare(bare_loop(STARTER, blocks), bare_loop(STARTER, rows))
        ratio = (BATCH * LENGTH / packed) / (statistics.mean(used) / other)
        mean_width = sum(len(row["input_ids"]) for row in rows) / len(rows)
        share = statistics.mean(used) / BATCH / mean_width
        print(
            f"tokens trained per second, packed against {name}: {ratio:.2f} times "
            f"({share:.0%} of the padded block is text)"
        )
    print()


def say_optimizer_and_precision(blocks) -> None:
    share8 = share_of_the_optimizer(STARTER, blocks)
    share = share_of_the_optimizer(FUSED, blocks)
    eight, plain = compare(bare_loop(STARTER, blocks), bare_loop(FUSED, blocks))
    print(f"adamw_8bit against fused AdamW: an update takes {eight / plain:.2f} times as long")
    print(
        f"  the optimizer's share of an update: {share8:.1%} with adamw_8bit, "
        f"{share:.1%} with fused AdamW"
    )
    half, full = compare(bare_loop(FUSED, blocks), bare_loop(FUSED.replace(bf16=False), blocks))
    print(
        "bf16 against fp32, both with fused AdamW: "
        f"an update takes {half / full:.2f} times as long\n"
    )


def start_up(*command) -> float:
    """Median seconds of a command in a process of its own, over five runs."""
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run([sys.executable, *command], check=True, capture_output=True)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def say_start_up() -> None:
    importing = start_up("-c", "import hpkit") - start_up("-c", "")
    helping = start_up("-m", "hpkit", "--help")
    recipe = start_up("-m", "hpkit", "check", "--recipe", "starter", "--examples", "700")
    script = start_up("-m", "hpkit", "check", __file__)
    print(f"import hpkit: {importing:.3f} s beyond Python's own start (at most 0.3)")
    print(f"hpkit --help: {helping:.3f} s (at most 0.5)")
    print(f"hpkit check of a recipe: {recipe:.3f} s (at most 0.5)")
    print(f"hpkit check of a script: {script:.3f} s (at most 0.5)\n")


#: A training in a process of its own prints the seconds of its 20 updates, loading left out.
_TRAINING = """
import time
from hpkit.finetune.training import trained
from hpkit.recipe import STARTER
from transformers import Trainer

train = Trainer.train
def timed(trainer, **options):
    began = time.perf_counter()
    train(trainer, **options)
    print(time.perf_counter() - began)
Trainer.train = timed
trained(STARTER.replace(max_steps=20, per_device_train_batch_size=8, max_seq_length=128))
"""


def side_by_side(trainings: int, spins: str) -> float:
    """Median seconds of trainings that were started together, whose OpenMP spins so often."""
    environment = os.environ | {"GOMP_SPINCOUNT": spins}
    pipe = dict(stdout=subprocess.PIPE, text=True, env=environment)
    started = []
    for _ in range(trainings):
        started.append(subprocess.Popen([sys.executable, "-c", _TRAINING], **pipe))
    return statistics.median(float(one.communicate()[0]) for one in started)


def say_side_by_side() -> None:
    usual = "300000"  # of libgomp, where nobody says anything
    ours = os.environ["GOMP_SPINCOUNT"]
    for trainings, words in ((1, "alone"), (2, "two side by side")):
        before = side_by_side(trainings, usual)
        now = side_by_side(trainings, ours)
        print(
            f"20 updates of 8 x 128 tokens, {words}: {now:.1f} s, and {before:.1f} s "
            f"with OpenMP's own {usual} rounds of waiting: {before / now:.2f} times as long"
        )
    print()


def bare_run(recipe, blocks) -> float:
    """Seconds of as many updates as the recipe has, and of nothing else."""
    update = bare_loop(recipe, blocks)
    began = time.perf_counter()
    for number in range(recipe.max_steps):
        update(number)
    return time.perf_counter() - began


def recorded_run(point, yardstick) -> float:
    """Seconds of a run as it is recorded, from loading the model to what would be written."""
    began = time.perf_counter()
    record_point(point, yardstick=yardstick)
    return time.perf_counter() - began


def say_recording(documents) -> None:
    """All on one thread, in turns; the first edition's runs had adamw_8bit and 32 sampled tunes."""
    (point, *_) = load_grids(data_folder() / "studies.toml")["optimizer"].find(
        optim=FUSED.optim, learning_rate=3e-4
    )
    (old_point, *_) = load_grids()["seeds"].points
    blocks = pack(documents, point.recipe.max_seq_length)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    bare = []
    recorded = []
    before = []
    for _ in range(3):
        bare.append(bare_run(point.recipe, blocks))
        recorded.append(recorded_run(point, CHOOSING))
        before.append(recorded_run(old_point, FIRST_EDITION))
    torch.set_num_threads(threads)
    loop = statistics.median(bare)
    print(f"100 updates of 8 x 128 tokens on one thread, bare loop, fused AdamW: {loop:.1f} s")
    for name, seconds in (("as a study records them", recorded), ("as the first edition", before)):
        taken = statistics.median(seconds)
        print(f"  {name}: {taken:.1f} s, {taken / loop:.2f} times")
    print()


def say_reading() -> None:
    """In processes of their own, whose memory no other comparison has touched.

    Before tokens were kept in arrays, 2,000,000 words in passages took 141 bytes a token.
    """
    for words, shape in (
        (2_000_000, "passages"),
        (18_000_000, "passages"),
        (18_000_000, "chapters"),
        (18_000_000, "rows"),
    ):
        command = [sys.executable, "-m", "benchmark.reading", str(words), shape]
        folder = Path(__file__).parent
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        read = json.loads(done.stdout)
        print(
            f"{words:,} words in {shape}, {read['tokens']:,} tokens, from the file to blocks: "
            f"{read['seconds']:.0f} s, {read['bytes'] / 1e9:.2f} GB, "
            f"{read['bytes'] / read['tokens']:.0f} bytes a token"
        )
    print("  (25 million tokens: at most 180 s and 1 GB)\n")


def redraw(explorer, name: str, values) -> float:
    """Median seconds from a control's change to the new picture."""
    seconds = []
    for value in values:
        began = time.perf_counter()
        setattr(explorer, name, value)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def say_widgets() -> None:
    rates = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2] * 8
    batches = [1, 2, 4, 8, 16, 32, 64, 128] * 5
    memory = MemoryExplorer()
    # Each length is computed once and then remembered, so these come first and but once.
    new_lengths = redraw(memory, "max_seq_length", [16, 32, 64, 128, 256])
    short = ScheduleExplorer()
    long = ScheduleExplorer(NOTES.replace(gradient_accumulation_steps=1), 52_000)
    bits = FormatExplorer(format="fp32")
    number = Prediction("bench", "How much?", tolerance=0.1)
    cases = {
        "ScheduleExplorer, 6 updates": redraw(short, "learning_rate", rates),
        "ScheduleExplorer, 13,000 updates": redraw(long, "learning_rate", rates),
        "MemoryExplorer, batch": redraw(memory, "per_device_train_batch_size", batches),
        "FormatExplorer, 32 bits": redraw(bits, "value", [k / 7 for k in range(1, 41)]),
        "Prediction, a number": redraw(number, "number", [k / 40 for k in range(40)]),
    }
    began = time.perf_counter()
    runs = load_runs()
    loading = time.perf_counter() - began
    explorer = RunExplorer("learning_rate", runs)
    rates = [3e-5, 3e-4, 1e-3, 3e-3, 1e-2] * 8
    cases["RunExplorer, curves"] = redraw(explorer, "learning_rate", rates)
    explorer.show = "evaluation loss at the end, along learning_rate"
    warmups = [0, 0.03, 0.1, 0.3, 200] * 8
    cases["RunExplorer, ends"] = redraw(explorer, "warmup_steps", warmups)
    print(f"loading the table of {len(runs)} runs: {loading:.2f} s (at most 0.3)")
    for name, seconds in cases.items():
        print(f"redraw of {name}: {seconds * 1e3:.0f} ms (at most 50)")
    print(f"redraw of MemoryExplorer, 1B, at a length not seen before: {new_lengths * 1e3:.0f} ms")


def main() -> None:
    quiet()
    _, tokenizer = load_model("starter")
    documents = encode(load_corpus(CORPUS), tokenizer)[0]
    blocks = pack(documents, LENGTH)
    print(
        f"starter on Aird's Airs, 8 x 256 tokens, {torch.get_num_threads()} threads, "
        f"medians of {UPDATES} updates\n"
    )
    say_update(blocks)
    say_packing(documents, blocks)
    say_optimizer_and_precision(blocks)
    say_start_up()
    say_side_by_side()
    say_recording(documents)
    say_reading()
    print("hpkit check")
    checking.main()
    say_widgets()


if __name__ == "__main__":
    main()
