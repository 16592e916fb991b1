"""Training speed and memory, hpkit beside what a person would pick instead: `make bench`, or this
file alone.

Each side trains in a process of its own, a few updates a round; the rounds alternate between the
sides, so that a busy moment of the machine hits all of them, and the figures are medians. The
sides:

  hpkit                 hpkit's own path, with its packing and its settings of the Trainer
  bare PyTorch loop     the same packed batches and the same arithmetic, nothing around it
  SFTTrainer, packing   TRL's, packing=True with blocks as long as hpkit's, nothing checkpointed:
                        all of a batch becomes one row
  SFTTrainer, wrapped   the same, packing_strategy="wrapped": rows as hpkit's, but documents in a
                        row see one another
  Trainer, defaults     transformers', one tune an example, padded to the longest of its batch of 8
  SFTTrainer, defaults  TRL's, the same examples as text; its default is to checkpoint activations

All get the same model, tunes, precision and optimizer; the first four also the same tokens in a
batch. Counted are useful tokens, those that are text and carry a label: padding is computed and not
counted. Then every side makes a few updates on one batch of the same tunes, and their losses are
compared: no speed is bought by training less. Last, hpkit and the bare loop train in turns in one
process, update by update: two processes can differ by more than what hpkit costs.

On a CPU: the starter and a Llama of ten million random weights, bf16 and 8-bit AdamW. On a GPU: the
shapes of SmolLM2-135M and Qwen2.5-0.5B with random weights, 8 x 1,024 tokens; besides bf16 with
8-bit AdamW also fp32, bf16 and fp16 with fused AdamW. Speed does not depend on what weights say.
The figures land in data/benchmarks/, one file a device.
"""

import argparse
import dataclasses
import datetime
import importlib.metadata
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmark.job import BARE, CORPUS, EVERYWHERE, HPKIT, SETUPS, SIDES, Job, needs_trl
from benchmark.models import MODELS, SHAPES, flops_per_token, peak_flops, save_random_model
from benchmark.sides import measure, quiet
from benchmark.table import table

from hpkit.capability import decide, probe
from hpkit.errors import BadInput
from hpkit.files import data_folder, write_whole
from hpkit.lessons.benchmarks import Benchmark, Measured
from hpkit.recipe import STARTER


def in_a_process(job: Job) -> dict:
    """What `job` measures in a process of its own. Raises RuntimeError with its last words."""
    # One card alone: on several, the Trainer would put the model on all of them.
    devices = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": devices.split(",")[0]}
    with tempfile.TemporaryDirectory() as folder:
        asked = dataclasses.asdict(dataclasses.replace(job, folder=folder))
        out = Path(folder) / "measured.json"
        command = [sys.executable, __file__, "--job", json.dumps(asked), "--out", str(out)]
        process = subprocess.run(command, env=environment, capture_output=True, text=True)
        if process.returncode or not out.is_file():
            last_words = process.stderr.strip().splitlines()[-1:]
            raise RuntimeError(last_words[0] if last_words else f"status {process.returncode}")
        return json.loads(out.read_text(encoding="utf-8"))


def available(machine) -> tuple[dict[str, str], dict[str, str]]:
    """(setups that hpkit trains on this machine as they are named, those it does not and why)."""
    taken = {}
    left_out = {}
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


def block_length(models: list[str], dry: bool) -> int:
    """Tokens of a packed block."""
    if dry:
        return 128
    if models[0] in MODELS["cuda"]:
        return 1024
    return STARTER.max_seq_length


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model that is measured: `path` is what `load_model` takes; `needed` FLOPs a token."""

    name: str
    path: str
    parameters: int
    needed: float


def subject(name: str, folder: Path, length: int, dry: bool) -> Subject:
    from hpkit.corpus import encode, load_corpus
    from hpkit.memory import parameters_of
    from hpkit.model import load_tokenizer, read_config

    path = name
    if name in SHAPES:
        path = str(folder / name)
        save_random_model(name, Path(path), dry)
    config = read_config(path)
    parameters = sum(parameter.elements for parameter in parameters_of(config))
    documents = encode(load_corpus(CORPUS), load_tokenizer(path))[0]
    lengths = [min(len(document), length) for document in documents]
    # The mean over tokens, not over documents: a long one has more tokens that look back far.
    mean_length = sum(tokens**2 for tokens in lengths) / sum(lengths)
    return Subject(name, path, parameters, flops_per_token(config, parameters, mean_length))


class Session:
    """The measuring of everything on `kind`, cpu or cuda, and what has come of it so far.

    `say` takes a line of progress. `dry`: tiny shapes, for the code's sake.
    """

    def __init__(self, kind: str, models: list[str], rounds: int, updates: int, dry: bool, say):
        self.kind = kind
        self.models = models
        self.rounds = rounds
        self.updates = updates
        self.dry = dry
        self.say = say
        self.machine = probe()
        self.length = block_length(models, dry)
        self.setups, self.left_out = available(self.machine)
        if models[0] not in MODELS["cuda"]:
            first, *others = self.setups
            for name in others:
                self.left_out[name] = "measured in the table of a GPU"
            self.setups = {first: self.setups[first]}
        self.sides = list(SIDES)
        if importlib.util.find_spec("trl") is None:
            self.sides = [side for side in SIDES if not needs_trl(side)]
            self.left_out["SFTTrainer"] = "trl is not installed: pip install -e .[bench]"
        for name, why in self.left_out.items():
            say(f"left out: {name}: {why}")
        self.measured = []
        self.optimizers = []
        self.in_turns = {}

    def run(self) -> Benchmark:
        with tempfile.TemporaryDirectory() as folder:
            for name in self.models:
                self.measure_model(subject(name, Path(folder), self.length, self.dry))
        return self.benchmark()

    def measure_model(self, model: Subject) -> None:
        job = Job(model.path, self.kind, self.length, self.updates)
        first, *_ = self.setups
        for setup in self.setups:
            sides = self.sides
            if setup != first:
                sides = [side for side in sides if side in EVERYWHERE]
            rounds_of = self.compare_sides(model, sides, dataclasses.replace(job, setup=setup))
            for side, rounds in rounds_of.items():
                self.measured.append(self.as_measured(model, setup, side, rounds))
        try:
            self.measure_alone(model, job)
        except RuntimeError as error:
            self.left_out[f"{model.name}, optimizers alone and in turns"] = f"failed: {error}"
            self.say(f"{model.name}, optimizers alone and in turns: failed: {error}")

    def compare_sides(self, model: Subject, sides: list[str], job: Job) -> dict[str, list[dict]]:
        """Side -> its rounds: every side once a round, in turns from the front and from the back.

        A side that fails in any round has none, and its reason is in `left_out`.
        """
        what = f"{model.name}, {job.setup}"
        rounds_of = {side: [] for side in sides}
        for number in range(self.rounds):
            # Whoever comes first in a round would always find the machine as the last left it.
            order = list(rounds_of) if number % 2 == 0 else list(reversed(rounds_of))
            for side in order:
                asked = dataclasses.replace(job, side=side, check=number == 0)
                try:
                    result = in_a_process(asked)
                except RuntimeError as error:
                    self.left_out[f"{what}, {side}"] = f"failed: {error}"
                    self.say(f"{what}, {side}: failed: {error}")
                    del rounds_of[side]
                    continue
                rounds_of[side].append(result)
                rate = result["useful"] / result["seconds"]
                self.say(
                    f"{what}, round {number + 1} of {self.rounds}, {side}: "
                    f"{rate:,.0f} useful tokens/s, {result['peak_memory_bytes'] / 1e6:,.0f} MB"
                )
        return rounds_of

    def as_measured(self, model: Subject, setup: str, side: str, rounds: list[dict]) -> Measured:
        rates = [one["useful"] / one["seconds"] for one in rounds]
        useful = sum(one["useful"] for one in rounds)
        computed = sum(one["computed"] for one in rounds)
        update_seconds = statistics.median(one["seconds"] / one["updates"] for one in rounds)
        utilisation = None
        peak = peak_flops(self.machine.name, setup)
        if peak:
            utilisation = round(statistics.median(rates) * model.needed / peak, 4)
        return Measured(
            model=model.name,
            parameters=model.parameters,
            setup=setup,
            side=side,
            same_settings=SIDES[side].packed,
            settings=SIDES[side].settings,
            useful_tokens_per_second=[round(rate, 1) for rate in rates],
            peak_memory_bytes=[one["peak_memory_bytes"] for one in rounds],
            idle_memory_bytes=[one["idle_memory_bytes"] for one in rounds],
            text_share=round(useful / computed, 4),
            update_seconds=round(update_seconds, 5),
            flops_utilisation=utilisation,
            optimizer_state_bytes=rounds[0]["optimizer_state_bytes"],
            losses=rounds[0]["losses"],
        )

    def measure_alone(self, model: Subject, job: Job) -> None:
        """Optimizers without training; hpkit and the bare loop in turns. Raises RuntimeError."""
        steps = in_a_process(dataclasses.replace(job, task="optimizers"))
        first, *_ = self.setups
        updates = self.rounds * self.updates
        turns = in_a_process(
            dataclasses.replace(job, task="in turns", setup=first, updates=updates)
        )
        self.in_turns[model.name] = turns
        for optim, found in steps.items():
            self.optimizers.append({"model": model.name, "optim": optim} | found)
        eight_bit = steps["adamw_8bit"]["seconds"] * 1e3
        fused = steps["adamw_torch_fused"]["seconds"] * 1e3
        self.say(
            f"{model.name}: a step of adamw_8bit alone {eight_bit:.2f} ms, "
            f"of fused AdamW {fused:.2f} ms"
        )
        ours = statistics.median(turns[HPKIT]) * 1e3
        bare = statistics.median(turns[BARE]) * 1e3
        self.say(
            f"{model.name}, in turns: an update of hpkit {ours:.2f} ms, "
            f"of the bare loop {bare:.2f} ms"
        )

    def benchmark(self) -> Benchmark:
        packages = ["torch", "transformers", "accelerate", "bitsandbytes"]
        if any(needs_trl(side) for side in self.sides):
            packages.append("trl")
        return Benchmark(
            device=self.machine.name,
            kind=self.kind,
            threads=self.machine.threads,
            date=datetime.date.today().isoformat(),
            versions={package: importlib.metadata.version(package) for package in packages},
            rounds=self.rounds,
            updates=self.updates,
            sides=self.measured,
            optimizers=self.optimizers,
            in_turns=self.in_turns,
            left_out=self.left_out,
        )


def read_options() -> argparse.Namespace:
    """Exits with status 2 and one line for what cannot be measured."""
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
        help="the file for the figures; default: data/benchmarks/<device>.json; in a dry run, "
        "and with --models, none",
    )
    parser.add_argument("--job", help=argparse.SUPPRESS)  # one side, in a process of its own
    options = parser.parse_args()
    for name, count in (("--rounds", options.rounds), ("--updates", options.updates)):
        if count is not None and count < 1:
            parser.error(f"{name}: expected 1 or more, got {count}")
    if len({model in MODELS["cuda"] for model in options.models or ()}) > 1:
        parser.error(
            "--models: the shapes of a GPU are measured in longer sequences: "
            "take either those, or starter and llama-10m"
        )
    return options


def main() -> int:
    options = read_options()
    if options.job:
        write_whole(options.out, json.dumps(measure(Job(**json.loads(options.job)))))
        return 0
    import torch

    dry = options.dry_run
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    rounds = options.rounds or (1 if dry else 3)
    updates = options.updates or (2 if dry else 12)
    models = options.models or MODELS["cuda" if dry else kind]
    began = time.perf_counter()

    def say(line: str) -> None:
        print(f"{time.perf_counter() - began:5.0f} s  {line}", flush=True)

    quiet()
    try:
        benchmark = Session(kind, models, rounds, updates, dry, say).run()
    except KeyboardInterrupt:
        print("stopped: nothing was stored", file=sys.stderr)
        return 130
    print("\n" + table(benchmark))
    out = options.out
    if out is None and not dry and not options.models:  # a part would take the place of the whole
        out = data_folder() / "benchmarks" / benchmark.file_name
    if out:
        write_whole(out, benchmark.to_json())
        print(f"stored: {out}")
    return int(any(why.startswith("failed") for why in benchmark.left_out.values()))


if __name__ == "__main__":
    sys.exit(main())
