"""Everything that is settled and said before the first update, whether the run follows or not."""

import dataclasses
from pathlib import Path

from hpkit.capability import Machine, decide, probe
from hpkit.corpus.load import Corpus
from hpkit.finetune import processes
from hpkit.finetune.checkpoints import Request
from hpkit.finetune.throughput import Throughput, choose
from hpkit.finetune.training import Job, prepare
from hpkit.formatting import plural
from hpkit.preflight.findings import preflight


def load(request: Request, out: Path, say) -> Job:
    """Load and count everything, say what will happen, and choose what makes it fast.

    `out` is where the Trainer will write; nothing is written yet. `say` takes each line. Raises
    BadInput for what cannot work.
    """
    machine = processes.from_main(probe)
    capability = decide(request.recipe, machine)
    _say_all(say, capability.choices)
    job = prepare(
        request.recipe,
        request.model,
        request.corpus,
        capability,
        out,
        eval_corpus=request.eval_corpus,
    )
    say(
        f"model {request.model}: {job.model.num_parameters():,} parameters; "
        f"{_corpus_in_words(job.corpus)}"
    )
    _say_all(say, _passed_over(job.corpus))
    _say_all(say, _evaluation_in_words(job.corpus))
    _say_all(say, job.accounting.lines())
    return _make_fast(job, request.throughput, machine, out, say)


def _say_all(say, lines) -> None:
    for line in lines:
        say(str(line))


def _corpus_in_words(corpus: Corpus) -> str:
    words = f"corpus {corpus.name}: {plural(len(corpus.documents), 'document')}"
    if corpus.evaluation is not None:
        return f"{words}, all to train on"
    _, held_out = corpus.split()
    return f"{words}, {len(held_out):,} of them held out to evaluate on"


def _passed_over(corpus: Corpus) -> list[str]:
    """The three commonest reasons why something of the source was not usable."""
    reasons = sorted(corpus.passed_over.items(), key=lambda item: -item[1])
    return [f"  passed over {count}: {why}" for why, count in reasons[:3]]


def _evaluation_in_words(corpus: Corpus) -> list[str]:
    """Where the evaluation comes from, if not from the corpus, and whether it was trained on."""
    evaluation = corpus.evaluation
    if evaluation is None:
        return []
    count = len(evaluation.documents)
    words = f"evaluation on all of {evaluation.name}: {plural(count, 'document')}"
    lines = [words, *_passed_over(evaluation)]
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
    shortage = next((one for one in findings if one.rule == "memory-over-free"), None)
    throughput, choices = choose(
        asked,
        job.capability,
        job.model,
        job.accounting.updates,
        short_of_memory=shortage is not None,
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
    job.model.set_attn_implementation(throughput.attn_implementation)
    settings = job.settings | throughput.settings
    return dataclasses.replace(
        job,
        settings=settings,
        arguments=job.recipe.training_arguments(out, **settings),
        capability=dataclasses.replace(job.capability, choices=[*job.capability.choices, *choices]),
    )
