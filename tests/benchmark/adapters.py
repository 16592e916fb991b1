"""All weights, LoRA and QLoRA side by side: seconds an update, memory, states, loss.

python -m benchmark.adapters MODEL…     in tests/; MODEL as in `hpkit finetune`, or a shape of
                                        benchmark.models with random weights

Each trains in a process of its own, on the same batches, and the same number of updates; the first
three are not timed. On a GPU the batches are 8 x 1,024 tokens, elsewhere 4 x 256. What is held is
compared with what `hpkit.memory` predicts.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmark.models import SHAPES, save_random_model
from hpkit.recipe import STARTER

#: In words, and the changes to the starter's recipe; the rates are for a comparison of time and
#: memory alone.
WAYS = {
    "all weights": dict(learning_rate=1e-4),
    "all weights, 8-bit states": dict(learning_rate=1e-4, optim="adamw_8bit"),
    "LoRA": dict(learning_rate=1e-3, lora_r=16),
    "LoRA, bf16 weights": dict(learning_rate=1e-3, lora_r=16, dtype="bfloat16"),
    "QLoRA": dict(learning_rate=1e-3, lora_r=16, load_in_4bit=True),
    "QLoRA, bf16 beside": dict(learning_rate=1e-3, lora_r=16, load_in_4bit=True, dtype="bfloat16"),
}
NOT_TIMED = 3


def measure(model: str, corpus: str, way: str, updates: int) -> dict:
    """Train, and say what it took: seconds, bytes, nats."""
    import torch

    from hpkit.capability import decide, probe
    from hpkit.finetune.timing import now
    from hpkit.finetune.training import fit, make_trainer, prepare
    from hpkit.finetune.watching import watcher
    from hpkit.measured_memory import (
        optimizer_state_bytes,
        peak_memory_bytes,
        reset_peak_memory,
        resident_memory_bytes,
    )
    from hpkit.memory import predict_memory
    from hpkit.model import quiet_transformers

    on_gpu = torch.cuda.is_available()
    recipe = STARTER.replace(
        per_device_train_batch_size=8 if on_gpu else 4,
        max_seq_length=1024 if on_gpu else 256,
        optim="adamw_torch_fused",
        max_steps=updates,
        warmup_steps=0,
        logging_steps=1,
        eval_strategy="no",
        save_strategy="no",
    ).replace(**WAYS[way])
    if model == "starter":
        recipe = recipe.replace(max_seq_length=256)
    ends = []
    losses = []
    with quiet_transformers(), tempfile.TemporaryDirectory() as out:
        capability = decide(recipe, probe())
        before = resident_memory_bytes()
        job = prepare(recipe, model, corpus, capability, out)
        reset_peak_memory(capability.device)

        def watch(update, updates, logged):
            if logged:
                losses.append(logged.get("loss"))
            else:
                ends.append(now(capability.device))

        trainer = make_trainer(job, [watcher(updates, watch)])
        began = time.perf_counter()
        result = fit(trainer, recipe)
        seconds = time.perf_counter() - began
        held = optimizer_state_bytes(result.optimizer_state)
        predicted = predict_memory(trainer.model, recipe)
    between = [later - earlier for earlier, later in itertools.pairwise(ends)][NOT_TIMED:]
    trained = sum(w.numel() for w in trainer.model.parameters() if w.requires_grad)
    return dict(
        model=model,
        way=way,
        device=capability.device_name,
        parameters=trainer.model.num_parameters(),
        trained=trained,
        update_seconds=statistics.median(between),
        seconds=seconds,
        peak_memory_bytes=peak_memory_bytes(capability.device),
        memory_before_bytes=0 if on_gpu else before,
        predicted_bytes=predicted._asdict() | {"total": predicted.total},
        optimizer_state_bytes=sum(entry["bytes"] for entry in held.values()),
        losses=[losses[0], losses[-1]],
    )


def in_words(found: list[dict]) -> str:
    """The figures as a table; times and memory also as shares of the first row's."""
    first = found[0]
    lines = [
        f"{first['model']} on {first['device']}",
        f"{'':28}{'trained':>13}{'update':>16}{'peak':>18}{'predicted':>12}{'states':>11}"
        f"{'loss':>17}",
    ]
    for one in found:
        share = one["update_seconds"] / first["update_seconds"]
        peak = one["peak_memory_bytes"] - one["memory_before_bytes"]
        of = peak / (first["peak_memory_bytes"] - first["memory_before_bytes"])
        predicted = one["predicted_bytes"]["total"]
        before, after = one["losses"]
        lines.append(
            f"{one['way']:28}{one['trained']:13,}{one['update_seconds'] * 1e3:8.0f} ms {share:4.2f}"
            f"{peak / 1e6:12,.0f} MB {of:4.2f}{predicted / 1e6:9,.0f} MB"
            f"{one['optimizer_state_bytes'] / 1e6:8,.1f} MB{before:8.3f} -> {after:.3f}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+")
    parser.add_argument("--corpus", default="airdsAirs")
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--out", type=Path, help="a file for the figures, as JSON")
    parser.add_argument("--way", help=argparse.SUPPRESS)  # one, in a process of its own
    options = parser.parse_args()
    if options.way:
        found = measure(options.models[0], options.corpus, options.way, options.updates)
        print(json.dumps(found))
        return
    everything = []
    with tempfile.TemporaryDirectory() as folder:
        for model in options.models:
            path = model
            if model in SHAPES:
                path = str(Path(folder) / model)
                save_random_model(model, Path(path), tiny=False)
            found = []
            for way in options.ways:
                command = [sys.executable, "-m", "benchmark.adapters", path, "--way", way]
                command += ["--corpus", options.corpus, "--updates", str(options.updates)]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    print(f"{model}, {way}: failed: {done.stderr.strip().splitlines()[-1:]}")
                    continue
                found.append(json.loads(done.stdout.splitlines()[-1]) | {"model": model})
                print(f"{model}, {way}: done", file=sys.stderr, flush=True)
                if options.out:
                    options.out.write_text(json.dumps(everything + found, indent=1) + "\n")
            if found:
                print(in_words(found), flush=True)
            everything += found


if __name__ == "__main__":
    main()
