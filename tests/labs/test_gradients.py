"""Gradients and activations of one update, against torch's and transformers' own."""

import math
from types import SimpleNamespace

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, LlamaConfig, LlamaForCausalLM

from hpkit.corpus import pack
from hpkit.errors import BadInput
from hpkit.labs.gradients import (
    apart,
    first_log,
    gradient,
    mean_loss,
    noise_scale,
    padded,
    padded_share,
    predicted_tokens,
    saved_activation_bytes,
    stacked,
    tokens_per_second,
)

SHAPE = dict(
    vocab_size=32, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
)
DOCUMENTS = [list(range(1, 1 + length)) for length in (4, 9, 20, 13)]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(**SHAPE, max_position_embeddings=64, pad_token_id=0)
    ).double()


def by_hand(model, documents, weight):
    """The gradient of the documents' summed losses, each times weight(its predicted tokens).

    Each document alone, unpadded.
    """
    model.zero_grad()
    for document in documents:
        tokens = torch.tensor([document])
        logits = model(input_ids=tokens, use_cache=False).logits[0, :-1]
        loss = torch.nn.functional.cross_entropy(logits, tokens[0, 1:], reduction="sum")
        (loss * weight(len(document) - 1)).backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def test_padded_has_the_documents_and_ignores_the_rest():
    batch = padded(DOCUMENTS[:2])
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, 0, 0, 0, 0, 0], list(range(1, 10))]
    assert batch["attention_mask"].sum(1).tolist() == [4, 9]
    assert batch["labels"].tolist()[0] == [-100, 2, 3, 4, *[-100] * 5]
    assert predicted_tokens(batch) == 3 + 8
    for length in (6, 30):
        assert padded(DOCUMENTS, length)["input_ids"].shape == (4, length)
    for wrong in ([], [[]]):
        with pytest.raises(BadInput, match="one document or more"):
            padded(wrong)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_gradients_are_those_of_plain_autograd(model, size):
    micro_batches = [padded(DOCUMENTS[first : first + size]) for first in range(0, 4, size)]
    total = sum(len(document) - 1 for document in DOCUMENTS)
    right = by_hand(model, DOCUMENTS, lambda count: 1 / total)
    error, _ = apart(gradient(model, micro_batches), right)
    assert error < 1e-6  # transformers computes the loss itself in 32 bits
    assert all(parameter.grad is None for parameter in model.parameters())
    if size == 1:
        means = by_hand(model, DOCUMENTS, lambda count: 1 / count / len(DOCUMENTS))
        error, _ = apart(gradient(model, micro_batches, mean_of_means=True), means)
        difference, _ = apart(means, right)
        assert error < 1e-6 < 0.1 < difference


def test_apart():
    error, cosine = apart(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 0.0]))
    assert error == pytest.approx(math.sqrt(5)) and cosine == 0
    assert apart(torch.ones(3), torch.ones(3)) == pytest.approx((0, 1))


def test_saved_bytes_are_what_autograd_keeps():
    class Squares(torch.nn.Module):
        device = torch.device("cpu")

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(100))

        def forward(self, x, use_cache):
            return SimpleNamespace(loss=(x * self.weight).exp().sum())

    # The product keeps x, and the weight, which does not count; exp keeps its result. Each is 100
    # fp32 numbers.
    assert saved_activation_bytes(Squares(), {"x": torch.ones(100)}) == 2 * 400


def test_saved_bytes_are_linear_in_the_batch(model):
    one, two, four = (
        saved_activation_bytes(model, padded([DOCUMENTS[2]] * count)) for count in (1, 2, 4)
    )
    assert four - two == pytest.approx(2 * (two - one), rel=0.1)
    assert saved_activation_bytes(model, padded(DOCUMENTS[:1])) < one


def test_the_noise_scale_of_known_noise():
    torch.manual_seed(0)
    mean = torch.full((1000,), 0.5)
    spread = 2.0
    drawn = (mean + spread * torch.randn(1000) for _ in range(400))
    known = 1000 * spread**2 / mean.square().sum().item()
    assert noise_scale(drawn) == pytest.approx(known, rel=0.05)
    with pytest.raises(BadInput, match="two examples or more, got 1"):
        noise_scale([mean])


@pytest.mark.slow
def test_the_trainers_log_is_that_of_one_large_batch(model):
    rows = []
    for document in ([*range(1, 9)], [*range(1, 9)], [3] * 8, [3] * 8):
        rows.append({"input_ids": torch.tensor(document), "labels": torch.tensor(document)})
    batch = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    loss = model(**batch).loss
    loss.backward()
    norm = torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).norm().item()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for sizes in ((4, 1), (1, 4)):
        logged = first_log(model.float(), rows, *sizes)
        assert logged == pytest.approx({"loss": loss.item(), "grad_norm": norm}, rel=1e-3)
    for name, tensor in before.items():
        assert torch.equal(tensor.float(), model.state_dict()[name])


@pytest.mark.slow
def test_a_classifier_has_no_dropout_in_the_trainers_log():
    torch.manual_seed(0)
    classifier = BertForSequenceClassification(BertConfig(**SHAPE))
    rows = [{"input_ids": torch.arange(1, 9), "labels": torch.tensor(1)}] * 2
    assert first_log(classifier, rows, 2, 1) == first_log(classifier, rows, 2, 1)


def test_mean_loss_is_that_of_one_large_batch(model):
    blocks = pack(DOCUMENTS, 8)
    assert len(blocks) == 5
    # With a cache, transformers lets documents see each other.
    whole = model(**stacked(blocks), use_cache=False).loss.item()
    for at_once in (1, 16, 1000):
        assert mean_loss(model, blocks, at_once) == pytest.approx(whole, rel=1e-6)


def test_padded_share_counts_each_batch_to_its_longest():
    assert padded_share([100, 200, 300, 400], 4) == pytest.approx(600 / 1600)
    assert padded_share([100, 200, 300, 400], 2) == pytest.approx(200 / 1200)
    assert padded_share([100, 200, 300], 2) == pytest.approx(100 / 700)
    assert padded_share([5, 7], 1) == 0


def test_speed_is_measured_and_leaves_the_model_as_it_is(model):
    model = model.float()
    threads = torch.get_num_threads()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert 0 < tokens_per_second(model, padded(DOCUMENTS), seconds=0) < 1e9
    for name, tensor in before.items():
        assert torch.equal(tensor, model.state_dict()[name])
    assert torch.get_num_threads() == threads
