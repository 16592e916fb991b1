"""The range test against geometric rates, Adam's first step, and the model's own loss."""

import numpy as np
import pytest
import torch

from hpkit.corpus import encode, load_corpus, pack
from hpkit.errors import BadInput
from hpkit.labs.lr_finder import RangeStep, range_test, suggested_rate
from hpkit.lessons import usual_point
from hpkit.model import load_model

POINT = usual_point()._replace(recipe=usual_point().recipe.replace(max_seq_length=32))


@pytest.mark.slow
def test_rates_rise_by_one_factor_and_the_first_step_is_adams():
    threads = torch.get_num_threads()
    steps = range_test(POINT, 1e-6, 1e-3, 4, held_out=2)
    assert np.allclose([step.rate for step in steps], np.geomspace(1e-6, 1e-3, 4))
    # Adam's first step is one rate, whatever the gradient.
    assert steps[0].moved == pytest.approx(1e-6, rel=0.02)
    assert steps == range_test(POINT, 1e-6, 1e-3, 4, held_out=2)
    assert torch.get_num_threads() == threads
    assert steps != range_test(POINT.with_seed(1), 1e-6, 1e-3, 4, held_out=2)


@pytest.mark.slow
def test_the_loss_is_the_models_on_the_held_out_blocks():
    step = range_test(POINT, 1e-12, 1e-12, 2, held_out=2)[-1]
    model, tokenizer = load_model("starter")
    block = pack(encode(load_corpus("airdsAirs"), tokenizer)[1], 32)[:2]
    inputs = {name: torch.tensor([entry[name] for entry in block]) for name in block[0]}
    logits = model(input_ids=inputs["input_ids"], position_ids=inputs["position_ids"]).logits
    predictions = logits[:, :-1].flatten(0, 1)
    labels = inputs["labels"][:, 1:].flatten()
    expected = torch.nn.functional.cross_entropy(predictions, labels)
    assert step.loss == pytest.approx(expected.item(), rel=1e-4)


def test_a_limit_on_the_gradient_does_not_limit_adams_step():
    moved = {}
    for limit in (0, 0.01):
        point = POINT._replace(recipe=POINT.recipe.replace(max_grad_norm=limit))
        first, *_ = range_test(point, 1e-4, 1e-4, 3)
        moved[limit] = first.moved
    assert moved[0] == pytest.approx(moved[0.01], rel=0.1)


def test_the_suggestion_and_what_cannot_be():
    steps = [RangeStep(1e-4, 2.0, 0), RangeStep(1e-3, 1.0, 0), RangeStep(1e-2, 3.0, 0)]
    assert suggested_rate(steps) == pytest.approx(1e-4)
    for low, high, updates in ((0, 1, 10), (1, 0.1, 10), (0.1, 1, 1)):
        with pytest.raises(BadInput, match="range test: expected 0 < low <= high"):
            range_test(POINT, low, high, updates)
