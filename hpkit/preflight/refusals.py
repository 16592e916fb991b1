"""Which version of which library refuses an argument, and which class took it once."""

from collections.abc import Mapping

from hpkit.preflight.arguments import SUCCESSORS
from hpkit.preflight.libraries import (
    BESIDE_UNSLOTH,
    TRANSFORMERS_ARGUMENTS,
    Version,
    is_known,
    known_classes,
    last_with,
    names_of,
    takes,
    training_argument_names,
    version_in_force,
)
from hpkit.preflight.written import Written

#: Origins whose names are judged here. What others do with an unknown name, unread-key says.
JUDGED = ("transformers", "trl", "llamafactory")
#: Those whose old names are surely meant where a file does not say by which method it trains; the
#: others had words, such as batch_size, that every script has.
TRL_USUAL = ("SFTConfig", "DPOConfig", "GRPOConfig", "KTOConfig", "RewardConfig", "ModelConfig")
#: The classes of TRL that take the arguments of a method, of the model and of the data.
TRL_ARGUMENTS = [
    name for name in known_classes("trl") if name.endswith(("Config", "ScriptArguments"))
]


def refused_by(written: Written, argument: str) -> tuple[str, Version] | None:
    """(package, version) of what takes no such argument; None where it is taken, or may be."""
    if written.form.word(argument) in written.fields or written.origin not in JUDGED:
        return None
    if written.origin == "trl" and not written.refuses_unknown:
        return refused_by_trl(written, argument)
    version = version_in_force("transformers", written.pins)
    if takes("transformers", "Seq2SeqTrainingArguments", argument, version):
        return _refused_after_an_upgrade(written, argument, version)
    if written.refuses_unknown:
        return written.origin, version_in_force(written.origin, written.pins)
    if version.pinned and argument in training_argument_names():
        return None  # argument-too-new says it
    # A class or script of one's own has arguments that nobody here can tell from mistakes.
    if written.has_own_fields and not was_an_argument("transformers", argument):
        return None
    if written.name in TRANSFORMERS_ARGUMENTS or written.has_own_fields:
        return "transformers", version
    return None


def was_an_argument(package: str, argument: str) -> bool:
    """Whether a class of training arguments took it once, and takes it no more."""
    classes = TRL_USUAL if package == "trl" else TRANSFORMERS_ARGUMENTS
    return any(last_with(package, name, argument) for name in classes)


def refused_by_trl(written: Written, argument: str) -> tuple[str, Version] | None:
    """The same of a config of TRL, which takes its own arguments and those of transformers."""
    version = version_in_force("trl", written.pins)
    classes = [written.name]
    if written.has_own_fields:  # a file does not say by which method it trains
        classes = TRL_ARGUMENTS
    elif not is_known("trl", written.name, version):
        return None  # gone with its module, or one of trl.experimental
    if any(takes("trl", name, argument, version) for name in classes):
        newest = version_in_force("trl", _upgraded(written))
        answers = [takes("trl", name, argument, newest) for name in classes]
        # None of a class that went as a whole: gone-import's.
        stays = any(answers) or None in answers or argument in training_argument_names()
        return None if stays or not version.pinned else ("trl", newest)
    beneath = version_in_force("transformers", written.pins)
    if takes("transformers", "TrainingArguments", argument, beneath):
        return _refused_after_an_upgrade(written, argument, beneath)
    is_too_new = version.pinned and argument in names_of("trl", written.name)
    if is_too_new or (beneath.pinned and argument in training_argument_names()):
        return None  # argument-too-new says it
    if was_an_argument("transformers", argument):
        return "transformers", beneath
    if written.has_own_fields and not was_an_argument("trl", argument):
        return None
    return "trl", version


def _upgraded(written: Written) -> Mapping[str, str]:
    """The pins that an upgrade leaves: Unsloth has limits of its own."""
    return BESIDE_UNSLOTH if written.unsloth else {}


def _refused_after_an_upgrade(
    written: Written, argument: str, version: Version
) -> tuple[str, Version] | None:
    """The newest version, where the pinned one takes what that does not."""
    newest = version_in_force("transformers", _upgraded(written))
    if not version.pinned or argument not in SUCCESSORS or newest == version:
        return None
    stays = takes("transformers", "TrainingArguments", argument, newest)
    return None if stays else ("transformers", newest)
