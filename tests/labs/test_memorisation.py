"""Reciting, held against the model's own probabilities, computed without `generate`.

And against a model that knows one text.
"""

import pytest
import torch

from hpkit.errors import BadInput
from hpkit.labs.memorisation import recite
from hpkit.model import load_model

TUNES = [
    "M:4/4\nK:G\nG2B2d2B2|c2A2B2G2|A2F2G2E2|D8|\n",
    "M:6/8\nK:D\nd3f3|a3f3|g3e3|d6|\n",
    "M:4/4\nK:C\n",
]


@pytest.fixture(scope="module")
def starter():
    return load_model("starter")


def test_each_token_is_the_most_likely_after_those_before(starter):
    model, tokenizer = starter
    recitals = recite(model, tokenizer, TUNES, given=12, count=10)
    assert [recital.given + recital.real for recital in recitals] == [
        tune[:22] for tune in TUNES[:2]
    ]
    for recital in recitals:
        ids = tokenizer(recital.given + recital.said, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = model(torch.tensor([[tokenizer.bos_token_id, *ids]])).logits
        likely = logits.argmax(-1)[0].tolist()
        assert likely[12:-1] == ids[12:]
        assert recital.said[: recital.right] == recital.real[: recital.right]
        assert recital.right == 10 or recital.said[recital.right] != recital.real[recital.right]


@pytest.mark.slow
def test_a_text_learned_by_heart_is_recited_and_the_mode_is_kept():
    torch.manual_seed(1)
    model, tokenizer = load_model("starter")
    tokens = tokenizer(TUNES[1], add_special_tokens=False)["input_ids"]
    ids = torch.tensor([[tokenizer.bos_token_id, *tokens]])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model.train()
    for _ in range(40):
        model(ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    (recital,) = recite(model, tokenizer, TUNES[1:2], given=10, count=18)
    assert recital.right == 18
    assert recital.said == recital.real == TUNES[1][10:28]
    assert model.training


def test_texts_that_are_too_short_are_named(starter):
    with pytest.raises(BadInput, match="expected texts of 64 tokens or more, got 1 shorter"):
        recite(*starter, TUNES[2:])
