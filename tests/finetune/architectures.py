"""What hpkit makes of every model type that transformers calls a causal one, as a table.

    python tests/finetune/architectures.py [--only llama,bert] [--out data/ARCHITECTURES.md]

No test: it takes minutes. Each type, tiny and with random weights, has a process of its own, so
that one which hangs or crashes does not end the others.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

from chat_models import passages
from tiny_architectures import CANNOT, tiny_architecture

from hpkit.errors import in_one_line

#: Seconds that a type may take; most take five.
TIME_LIMIT = 300
LENGTH = 64


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", metavar="TYPES", help="model types, with commas between them")
    parser.add_argument("--out", type=Path, help="the Markdown file; by default it is printed")
    parser.add_argument(
        "--kept",
        type=Path,
        help="a folder for what was found of each type: what lies there is not looked for again",
    )
    parser.add_argument("--jobs", type=int, default=2, help="types at a time (default: 2)")
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["OMP_NUM_THREADS"] = "1"
    import_once()
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    model_types = sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    if options.only:
        model_types = options.only.split(",")
    with tempfile.TemporaryDirectory() as scratch:
        kept = options.kept or Path(scratch) / "kept"
        kept.mkdir(parents=True, exist_ok=True)
        look_at_all(model_types, kept, Path(scratch), options.jobs)
        found = {}
        for model_type in model_types:
            found[model_type] = json.loads(file_of(kept, model_type).read_text(encoding="utf-8"))
    text = page(found)
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    else:
        print(text)


def import_once():
    """Import what takes seconds before the processes fork, which then have it."""
    import torch
    import transformers
    import transformers.trainer

    import hpkit.finetune.session  # noqa: F401

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def file_of(kept: Path, model_type: str) -> Path:
    return kept / f"{model_type}.json"


def look_at_all(model_types: list[str], kept: Path, scratch: Path, jobs: int) -> None:
    """Leave a file in `kept` for each type that has none there, `jobs` types at a time."""
    waiting = [name for name in model_types if not file_of(kept, name).exists()]
    count = len(waiting)
    running = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            model_type = waiting.pop(0)
            arguments = (model_type, scratch / model_type, file_of(kept, model_type))
            process = multiprocessing.get_context("fork").Process(target=child, args=arguments)
            process.start()
            running[model_type] = (process, time.monotonic())
        for model_type, (process, began) in list(running.items()):
            seconds = time.monotonic() - began
            if process.is_alive() and seconds < TIME_LIMIT:
                continue
            died = f"the process died ({process.exitcode})"
            if process.is_alive():
                process.kill()
                died = f"not done after {TIME_LIMIT} seconds"
            process.join()
            del running[model_type]
            shutil.rmtree(scratch / model_type, ignore_errors=True)
            file = file_of(kept, model_type)
            if not file.exists():
                file.write_text(json.dumps({"built": died}), encoding="utf-8")
            number = count - len(waiting) - len(running)
            print(f"{number}/{count} {model_type} ({seconds:.0f} s)", file=sys.stderr, flush=True)
        time.sleep(0.05)


def child(model_type: str, folder: Path, file: Path) -> None:
    """In a process of its own: look at one type and write down what was found."""
    # Warnings of 189 models would hide the progress.
    silence = open(os.devnull, "w")
    os.dup2(silence.fileno(), sys.stderr.fileno())
    os.dup2(silence.fileno(), sys.stdout.fileno())
    found = look_at(model_type, folder)
    part = file.with_suffix(".part")
    part.write_text(json.dumps(found, indent=1), encoding="utf-8")
    part.rename(file)


def look_at(model_type: str, folder: Path) -> dict:
    """All columns of one type, as text; of one that cannot be built only why."""
    from hpkit.leaks import keeps_documents_apart, refuse_unless_causal
    from hpkit.model import load_model

    if model_type in CANNOT:
        return {"built": CANNOT[model_type]}
    model_folder = folder / "model"
    try:
        tiny_architecture(model_type, model_folder)
        model, _ = load_model(str(model_folder))
    except Exception as error:  # each class of model has its own
        return {"built": in_one_line(error)}
    found = {
        "built": "yes",
        "class": type(model).__name__,
        "trains": trains(model_folder, folder),
        "causal": outcome(lambda: refuse_unless_causal(model, model_type)),
        "apart": outcome(lambda: yes_or_no(keeps_documents_apart(model))),
        "sdpa": yes_or_no(model._supports_sdpa),
        "callback": with_callback(model_folder, folder),
    }
    # The folder is another one each time.
    for name, value in found.items():
        found[name] = value.replace(str(model_folder), model_type)
    return found


def yes_or_no(value) -> str:
    return "yes" if value else "no"


def outcome(action) -> str:
    """What the action returns, "yes" where it returns nothing, or the error that it ends with."""
    try:
        value = action()
    except Exception as error:  # what it may be is the question
        return in_one_line(error)
    return "yes" if value is None else str(value)


def trains(model_folder: Path, folder: Path) -> str:
    """What two updates of `finetune` come to: "yes", the line that refuses, or a traceback."""
    from hpkit.errors import BadInput
    from hpkit.finetune import finetune
    from hpkit.recipe import Recipe

    corpus = folder / "passages.txt"
    corpus.write_text("\n\n".join(passages(60)) + "\n", encoding="utf-8")
    recipe = Recipe(
        max_steps=2,
        max_seq_length=LENGTH,
        per_device_train_batch_size=2,
        logging_steps=1,
        save_strategy="no",
        eval_strategy="no",
    )
    try:
        finetune(recipe, str(model_folder), str(corpus), folder / "run", log=None)
    except BadInput as error:
        return f"refused: {error}"
    except Exception as error:  # what no user should see
        return f"traceback in {where(error)}: {in_one_line(error)}"
    return "yes"


def where(error: Exception) -> str:
    """The last file of hpkit's that the error came through."""
    import hpkit

    package = Path(hpkit.__file__).parent
    file = ""
    for frame in traceback.extract_tb(error.__traceback__):
        if package in Path(frame.filename).parents:
            file = str(Path(frame.filename).relative_to(package.parent))
    return file


def with_callback(model_folder: Path, folder: Path) -> str:
    """Does `preflight_callback` leave a plain Trainer as it is? "yes", or what it changes.

    A Trainer that fails by itself is told of as well.
    """
    from hpkit.preflight import preflight_callback

    without = outcome(lambda: plain_training(model_folder, folder / "without", []))
    callback = preflight_callback(log=lambda line: None)
    heard = outcome(lambda: plain_training(model_folder, folder / "with", [callback]))
    if heard != without:
        return f"no: {heard}, and without it {without}"
    if without.startswith("losses"):
        return "yes"
    return f"yes, but the Trainer fails without it too: {without}"


def plain_training(model_folder: Path, out: Path, callbacks: list) -> str:
    """The losses of two updates by transformers' Trainer, which no line of hpkit has touched."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    tokens = tokenizer("\n\n".join(passages(60)), add_special_tokens=False)["input_ids"]
    blocks = []
    for start in range(0, len(tokens) - LENGTH, LENGTH):
        block = tokens[start : start + LENGTH]
        blocks.append({"input_ids": block, "labels": list(block)})
    arguments = TrainingArguments(
        output_dir=str(out),
        max_steps=2,
        per_device_train_batch_size=2,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    trainer = Trainer(model=model, args=arguments, train_dataset=blocks, callbacks=callbacks)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return f"losses {losses}"


def page(found: dict[str, dict]) -> str:
    """The Markdown page."""
    import torch
    import transformers

    built = [row for row in found.values() if row["built"] == "yes"]
    trained = count(built, "trains", "yes")
    refused = sum(row["trains"].startswith("refused") for row in built)
    rows = []
    for model_type, row in sorted(found.items()):
        cells = [model_type]
        if row["built"] != "yes":
            cells += ["", f"not built: {row['built']}", "", "", "", ""]
        else:
            cells += [row["class"], row["trains"]]
            # What is wrong stands in the column before, or in the file that was kept.
            cells += [short(row["causal"]), short(row["apart"])]
            cells += ["sdpa" if row["sdpa"] == "yes" else "no sdpa", row["callback"]]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    lines = [
        "# Which architectures can be trained",
        "",
        "Every model type for which transformers has a causal language model, tiny and with random",
        "weights, in two updates on the CPU. Written by",
        "[`architectures.py`](../tests/finetune/architectures.py).",
        "",
        f"transformers {transformers.__version__}, torch {torch.__version__}: "
        f"{len(found)} types, {len(built)} built; {trained} train, {refused} are refused, "
        f"{len(built) - trained - refused} end in a traceback. By a look at what they see, "
        f"{count(built, 'causal', 'yes')} are causal and {count(built, 'apart', 'yes')} keep the "
        "documents of a block apart.",
        "",
        "| model type | class | trains | causal | documents apart | attention "
        "| preflight_callback harmless |",
        "|---|---|---|---|---|---|---|",
        *rows,
    ]
    return "\n".join(lines) + "\n"


def count(rows: list[dict], column: str, value: str) -> int:
    return sum(row[column] == value for row in rows)


def short(value: str) -> str:
    """A cell of the table: "yes", "no", or "?" for a look that ended with an error of its own."""
    if value.startswith("BadInput"):
        return "no"
    return value if value in ("yes", "no") else "?"


if __name__ == "__main__":
    main()
