"""Everything that is settled and said before the first update, whether the run follows or not."""

import dataclasses
from pathlib import Path

from hpkit.adapters import adapter_bytes, is_adapted, trained_weights
from hpkit.capability import Machine, decide, probe
from hpkit.corpus.documents import Corpus
from hpkit.corpus.ledger import ledger_lines
from hpkit.corpus.load import load_corpus
from hpkit.finetune import processes
from hpkit.finetune.checkpoints import Request
from hpkit.finetune.throughput import Throughput, choose
from hpkit.finetune.training import Job, prepare
from hpkit.formatting import plural, shown_bytes
from hpkit.preflight.findings import preflight


def load(request: Request, out: Path, say, progress: bool = False) -> Job:
    """Load and count everything, say what will happen, and choose what makes it fast.

    `out` is where the Trainer will write; nothing is written yet. `say` takes each line, and
    `progress` shows a bar over a long text. Raises BadInput for what cannot work.
    """
    machine = processes.from_main(probe)
    capability = decide(request.recipe, machine)
    _say_all(say, capability.choices)
    job = prepare(
        request.recipe,
        request.model,
        load_corpus(request.corpus, request.eval_corpus, text_column=request.text_column),
        capability,
        out,
        progress=progress,
    )
    say(
        f"model {request.model}: {job.model.num_parameters():,} parameters; "
        f"{_corpus_in_words(job.corpus)}"
    )
    if is_adapted(job.model):
        say(_adapter_in_words(job))
    _say_all(say, _documents_in_words(job))
    _say_all(say, job.accounting.lines())
    return _make_fast(job, request.throughput, machine, out, say)


def _say_all(say, lines) -> None:
    for line in lines:
        say(str(line))


def _adapter_in_words(job: Job) -> str:
    """What trains beside the frozen weights, and how large it is."""
    trained = sum(weight.numel() for weight in trained_weights(job.model))
    share = trained / job.model.num_parameters()
    return (
        f"adapter: rank {job.recipe.lora_r} beside {job.recipe.target_modules}, "
        f"{plural(trained, 'parameter')}, {share:.1%} of all; the rest is frozen; "
        f"{shown_bytes(adapter_bytes(job.model))}"
    )


def _corpus_in_words(corpus: Corpus) -> str:
    words = f"corpus {corpus.name}: {plural(len(corpus.documents), 'document')}"
    if corpus.evaluation is not None:
        return f"{words}, all to train on"
    _, held_out = corpus.split()
    return f"{words}, {len(held_out):,} of them held out to evaluate on"


def _documents_in_words(job: Job) -> list[str]:
    """What became of every document, of the corpus and of one to evaluate on."""
    ledger, eval_ledger = job.ledgers
    parts = [job.blocks.train]
    if eval_ledger is None:
        parts.append(job.blocks.held_out)
    lines = [f"  {line}" for line in ledger_lines(ledger, job.corpus, parts)]
    if eval_ledger is not None:
        lines += _evaluation_in_words(job.corpus)
        parts = [job.blocks.held_out]
        for line in ledger_lines(eval_ledger, job.corpus.evaluation, parts):
            lines.append(f"  {line}")
    return lines


def _evaluation_in_words(corpus: Corpus) -> list[str]:
    """Where the evaluation comes from, if not from the corpus, and whether it was trained on."""
    evaluation = corpus.evaluation
    count = len(evaluation.documents)
    lines = [f"evaluation on all of {evaluation.name}: {plural(count, 'document')}"]
    shared = corpus.trained_and_evaluated
    if shared:
        lines.append(
            f"  {shared:,} of these {count:,} are trained on as well: their loss tells what was "
            "learnt by heart, and nothing of new text"
        )
    return lines


def _make_fast(job: Job, asked: Throughput, machine: Machine, out: Path, say) -> Job:
    """The job with attention, compiling and the like settled, and preflight's findings said."""
    findings = preflight(
        job.recipe,
        len(job.blocks.train.blocks),
        job.model,
        machine,
        processes=job.accounting.processes,
    )
    shortage = None
    for finding in findings:
        if finding.rule == "memory-over-free" and finding.severity == "error":
            shortage = finding
    throughput, choices = choose(
        asked,
        job.capability,
        job.model,
        job.accounting.updates,
        short_of_memory=shortage is not None,
        packed_rows=job.recipe.per_device_train_batch_size if job.ledgers[0].together else 0,
    )
    _say_all(say, choices)
    if shortage and throughput.activation_checkpointing:
        # What is recomputed need not be held: this mends a shortage where the rest has room.
        held = shortage.evidence
        if held["weights"] + held["gradients"] + held["optimizer"] <= held["free"]:
            findings.remove(shortage)
    _say_all(say, findings)
    # Attention belongs to the model, the rest to the Trainer's arguments; these are made anew,
    # for transformers works some of them out while they are made.
    if throughput.attn_implementation != job.model.config._attn_implementation:
        job.model.set_attn_implementation(throughput.attn_implementation)
    settings = job.settings | throughput.settings
    return dataclasses.replace(
        job,
        settings=settings,
        arguments=job.recipe.training_arguments(out, **settings),
        capability=dataclasses.replace(job.capability, choices=[*job.capability.choices, *choices]),
    )
