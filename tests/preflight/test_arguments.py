"""The tables of arguments, against the installed transformers."""

import dataclasses
import re

import transformers

from hpkit.preflight.arguments import SUCCESSORS, optimizer_names, training_argument_names


def test_the_names_that_transformers_takes():
    fields = dataclasses.fields(transformers.Seq2SeqTrainingArguments)
    assert training_argument_names() == {field.name for field in fields if field.init}
    assert not training_argument_names() & set(SUCCESSORS)
    assert optimizer_names() == {name.value for name in transformers.training_args.OptimizerNames}
    for text in SUCCESSORS.values():
        successor = re.match(r"(\w+)=", text)
        assert text.startswith("leave it out") or successor[1] in training_argument_names()
