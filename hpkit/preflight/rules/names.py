"""Rules about names: what a library takes, took once, or takes under another name."""

from collections.abc import Iterator

from hpkit.errors import nearest
from hpkit.preflight.arguments import (
    DEPRECATED,
    LENGTH_IN_TRANSFORMERS,
    MOVED_TO_CONFIG,
    SUCCESSORS,
    TRL_SUCCESSORS,
    Successor,
)
from hpkit.preflight.forms import LEAVE_OUT, change_in_words
from hpkit.preflight.libraries import (
    TRANSFORMERS_ARGUMENTS,
    Version,
    first_with,
    last_before,
    last_with,
    names_of,
    number_of,
    oldest_in_force,
    takes,
    training_argument_names,
    version_in_force,
)
from hpkit.preflight.plan import Plan
from hpkit.preflight.refusals import (
    JUDGED,
    TRL_ARGUMENTS,
    TRL_USUAL,
    refused_by,
    refused_by_trl,
    was_an_argument,
)
from hpkit.preflight.register import Finding, rule
from hpkit.preflight.written import ELSEWHERE, Written

#: As like as a misspelling is to its word; what is less so is a name of its own.
MISSPELT = 0.88

OLD_SCRIPT = """\
from transformers import TrainingArguments

args = TrainingArguments("out", warmup_ratio=0.1, evaluation_strategy="epoch")
"""


@rule("removed-argument", notebook="12", example=OLD_SCRIPT)
def removed_argument(plan: Plan) -> Iterator[Finding]:
    """An argument that the library no longer takes, or never took.

    transformers 5 and TRL 1 dropped some thirty names of version 4 and 0, and a dataclass refuses
    what it does not know: the script stops at the call, before anything is trained. Where a file
    installs an older version itself, the finding is a hint on what an upgrade will ask for.
    """
    written = plan.written
    # A trainer has a rule of its own, and what Unsloth makes of TRL's names another.
    if plan.live or written.is_trainer or (written.unsloth and written.origin == "trl"):
        return
    later = []
    for argument in plan.named:
        refusal = refused_by(written, argument)
        if refusal is None:
            continue
        package, version = refusal
        if version == version_in_force(package, written.pins):
            yield _removed(plan, argument, refusal)
        else:
            later.append((argument, refusal))
    for package in ("transformers", "trl"):
        its_own = [pair for pair in later if pair[1][0] == package]
        if its_own:
            yield _removed_by_an_upgrade(plan, its_own)


def _removed(plan: Plan, argument: str, refusal: tuple[str, Version]) -> Finding:
    package, version = refusal
    written = plan.written
    changes, advice = _in_place_of(plan, package, argument)
    last = _last_of(written, package, argument)
    since = f" ({last} was the last)" if last else ""
    library = f"{package} {version.text}"
    if written.origin not in ("transformers", "trl") and not last:
        library = written.tool
    word = written.form.word(argument)
    return Finding(
        severity="error",
        argument=argument,
        last=_last_version(package, argument, last),
        message=f"{library} has no argument {word}{since}: {_consequence(written)}",
        changes=changes,
        advice=advice,
        evidence={"last": last},
    )


def _removed_by_an_upgrade(plan: Plan, later: list[tuple[str, tuple[str, Version]]]) -> Finding:
    """One hint on all arguments that the installed version takes, and the newest does not."""
    written = plan.written
    words = [written.form.word(argument) for argument, _ in later]
    package, newest = later[0][1]
    advice = []
    for argument, (its_package, _) in later:
        changes, words_on_it = _in_place_of(plan, its_package, argument)
        advice.append(change_in_words(changes, words_on_it, written.form))
    works = "works" if len(words) == 1 else "work"
    it = "it" if len(words) == 1 else "they"
    return Finding(
        severity="hint",
        argument=later[0][0],
        message=(
            f"{', '.join(words)} {works} with {package} {written.pins[package].lstrip('=')}, which "
            f"{written.pinned_by}; after an upgrade to {newest.text} {it} would be refused"
        ),
        # The new names are for the new version: made today they would break the run.
        advice=f"nothing with that version; with the upgrade {'; '.join(advice)}",
        evidence={"newest": newest.text},
    )


def _in_place_of(plan: Plan, package: str, argument: str) -> tuple[dict, str]:
    """(changes, advice) for an argument that is gone."""
    written = plan.written
    successor = _successor(written, package, argument)
    if successor is None and package == "transformers" and argument in MOVED_TO_CONFIG:
        config = next(name for name in TRL_USUAL if argument in names_of("trl", name))
        return {}, f"make it a config of TRL, such as {config}, which has it"
    if successor is None:
        near = None
        if not was_an_argument("transformers", argument) and not was_an_argument("trl", argument):
            near = nearest(argument, _names_near(written), MISSPELT)
        if near is not None and argument in plan.given:
            return {argument: LEAVE_OUT, near: plan.given[argument]}, ""
        return {argument: LEAVE_OUT}, f"or write {near}" if near else ""
    if successor.argument in plan.named:
        # Where both are written the new name counts, but for a 0.
        is_told = plan.is_told(successor.argument)
        if is_told and plan.settings.get(successor.argument):
            return {argument: LEAVE_OUT}, ""
        if is_told and plan.is_told(argument):
            return successor.changes(argument, plan.given[argument]), successor.words
        old = written.form.word(argument)
        new = written.form.word(successor.argument)
        return {}, f"leave {old} out, and where {new} is 0 or not set give {new} its value"
    if successor.argument and not plan.is_told(argument):
        return {}, with_its_option(written, argument, successor)
    return successor.changes(argument, plan.given.get(argument)), successor.words


def with_its_option(written: Written, argument: str, successor: Successor) -> str:
    """What mends an argument whose value somebody else says: the option has to stay one."""
    new_name = written.form.word(successor.argument)
    if successor.is_a_new_name:
        words = f"call it {new_name}, with the same value"
    elif isinstance(successor.value, str):
        setting = written.form.setting(successor.argument, successor.value)
        words = f"give {setting} in its place, where {written.form.word(argument)} is true"
    else:
        words = f"give what it says to {new_name}, in its place"
    return f"{words}: {successor.words}" if successor.words else words


def _last_of(written: Written, package: str, argument: str) -> str | None:
    """The last version that took the argument, in the file's own class or in any."""
    if package == "trl" and written.has_own_fields:
        return None  # each method lost it in a version of its own
    classes = [written.name] if package == "trl" else TRANSFORMERS_ARGUMENTS
    found = [last_with(package, name, argument) for name in classes]
    return next(filter(None, found), None)


def _last_version(package: str, argument: str, last: str | None) -> tuple[str, str] | None:
    """The package and `last`; of TRL's methods, which differ, the last version of any."""
    if last is None and package == "trl":
        found = [last_with(package, name, argument) for name in TRL_ARGUMENTS]
        last = max(filter(None, found), key=number_of, default=None)
    return (package, last) if last else None


def _consequence(written: Written) -> str:
    if written.form.language == "python":
        return "the call is a TypeError"
    return "the run is refused before it starts"


def _successor(written: Written, package: str, argument: str) -> Successor | None:
    if argument == "max_seq_length" and package == "transformers":
        return LENGTH_IN_TRANSFORMERS
    if package == "trl" and argument in TRL_SUCCESSORS:
        successor = TRL_SUCCESSORS[argument]
        new_name = successor.argument
        classes = TRL_ARGUMENTS if written.has_own_fields else [written.name]
        known = set(training_argument_names()).union(*(names_of("trl", name) for name in classes))
        # TRL has classes that never got the new name.
        if new_name is None or new_name in known:
            return successor
        return None
    return SUCCESSORS.get(argument)


def _names_near(written: Written) -> frozenset[str]:
    return written.fields | training_argument_names() | names_of("trl", written.name)


#: What unsloth 2026.10.9 (models/rl_config_compat.py, read 2026-11-27) moves to its new name.
UNSLOTH_RENAMES = {
    "use_liger_loss",
    "vllm_guided_decoding_regex",
    "wandb_log_unique_prompts",
    "warmup_ratio",
    "push_to_hub_token",
    "per_gpu_train_batch_size",
    "per_gpu_eval_batch_size",
    "max_seq_length",
}


@rule(
    "dropped-by-unsloth",
    notebook="12",
    example="""\
from unsloth import FastLanguageModel
from trl import SFTConfig

args = SFTConfig("out", evaluation_strategy="epoch")
""",
)
def dropped_by_unsloth(plan: Plan) -> Iterator[Finding]:
    """An argument that Unsloth passes over, because TRL no longer has it.

    Plain TRL stops at it. Unsloth's configs print a line, go on without it, and so a run that was
    to evaluate never does. Arguments that have another name today it moves there, and of those
    nothing is said.
    """
    written = plan.written
    if plan.live or not written.unsloth or written.origin != "trl" or written.is_trainer:
        return
    for argument in plan.named:
        refusal = refused_by_trl(written, argument)
        if argument in UNSLOTH_RENAMES or refusal is None:
            continue
        package, version = refusal
        was_its_own = last_with("trl", written.name, argument) is not None
        was_one = was_its_own or was_an_argument("transformers", argument)
        is_in_force = version == version_in_force(package, written.pins)
        if not was_one or not is_in_force:
            continue
        changes, advice = _in_place_of(plan, package, argument)
        last = _last_of(written, package, argument)
        yield Finding(
            severity="hint",
            argument=argument,
            message=(
                f"{package} {version.text} has no argument {argument} ({last} was the last): "
                "Unsloth goes on without it"
            ),
            changes=changes,
            advice=advice,
            evidence={"last": last},
        )


@rule(
    "argument-too-new",
    notebook="12",
    example="""\
# /// script
# dependencies = ["transformers==4.38.2"]
# ///
from transformers import TrainingArguments

args = TrainingArguments("out", eval_strategy="epoch")
""",
)
def argument_too_new(plan: Plan) -> Iterator[Finding]:
    """An argument that the version which the file installs does not take yet.

    A name of today in a notebook that pins the library of two years ago stops at the call, just as
    the other way round.
    """
    written = plan.written
    if plan.live or written.unsloth or written.tool or written.pinned_by == ELSEWHERE:
        return
    # A config of TRL takes transformers' arguments beside its own.
    classes = [("transformers", "TrainingArguments")]
    if written.origin == "trl":
        classes.append(("trl", written.name))
    elif written.origin != "transformers" or written.name not in TRANSFORMERS_ARGUMENTS:
        return
    for argument in plan.named:
        answers = [
            takes(package, name, argument, version_in_force(package, written.pins))
            for package, name in classes
        ]
        if any(answers) or argument in written.fields:
            continue
        for package, name in classes:
            first = first_with(package, name, argument)
            is_alive = first is not None and last_with(package, name, argument) is None
            if is_alive and version_in_force(package, written.pins).pinned:
                yield _too_new(plan, package, argument, first)
                break


def _too_new(plan: Plan, package: str, argument: str, first: str) -> Finding:
    written = plan.written
    old = plan.old_name(argument)
    instead = f"call it {old}, as that version does" if old else f"leave {argument} out"
    return Finding(
        severity="error",
        argument=argument,
        message=(
            f"{package} {written.pins[package].lstrip('=')}, which {written.pinned_by}, has no "
            f"argument {argument} yet ({first} has it): {_consequence(written)}"
        ),
        advice=f"install {package}>={first}, or {instead}",
        evidence={"first": first},
    )


@rule(
    "deprecated-argument",
    notebook="08",
    example="""\
from transformers import TrainingArguments

args = TrainingArguments("out", gradient_checkpointing=True)
""",
)
def deprecated_argument(plan: Plan) -> Iterator[Finding]:
    """An argument that has a new name, and still works.

    transformers warns of it in the log, and drops the old name with its next major version. Where
    older versions are let in as well nothing is said: they know the old name alone.
    """
    written = plan.written
    # Live TrainingArguments have a value for every field, so nobody knows what was written.
    if plan.live or written.unsloth or written.origin not in JUDGED:
        return
    # The new name would fail in the oldest version that the file may run with.
    version = oldest_in_force("transformers", written.pins)
    changes = {}
    found = []
    for argument, successor in DEPRECATED.items():
        known = takes("transformers", "TrainingArguments", successor.argument, version)
        if argument not in plan.named or not known or not version.text:
            continue
        # A field that a class of one's own declares keeps its name for whoever gives it.
        if argument in written.fields:
            continue
        found.append(argument)
        value = plan.given.get(argument)
        changes[argument] = LEAVE_OUT
        # TRL's own default is true.
        if value is not None and (value or written.origin == "trl"):
            changes[successor.argument] = value
    if found:
        new_name = DEPRECATED[found[0]].argument
        first = first_with("transformers", "TrainingArguments", new_name)
        told = all(map(plan.is_told, found))
        yield Finding(
            severity="hint",
            argument=found[0],
            last=("transformers", last_before("transformers", first)),
            message=(
                f"{written.form.word(found[0])} is called {new_name} since transformers {first}, "
                "and its old name is gone in 6"
            ),
            changes=changes if told else {},
            advice="" if told else f"call it {new_name}",
            evidence={"successor": new_name},
        )
