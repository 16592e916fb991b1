"""Does a model see what it must not? The probes, against what attention masks and states do."""

import inspect
import math

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BartConfig,
    BertConfig,
    ElectraConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MambaConfig,
    OPTConfig,
    RobertaConfig,
)

from hpkit.errors import BadInput
from hpkit.leaks import keeps_documents_apart, refuse_unless_causal

SHAPE = dict(
    vocab_size=64,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
    max_position_embeddings=64,
)
OPT = SHAPE | dict(ffn_dim=64, word_embed_proj_dim=32)
GPT2 = dict(vocab_size=64, n_embd=32, n_layer=2, n_head=2, n_positions=64)
BART = dict(
    vocab_size=64, d_model=32, decoder_layers=2, decoder_attention_heads=2, decoder_ffn_dim=64
)


def tiny(config_class, **shape):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config_class(**shape))


@pytest.mark.parametrize(
    ("config_class", "shape", "apart"),
    [
        (LlamaConfig, SHAPE, True),
        (GPT2Config, GPT2, True),
        (GPTNeoXConfig, SHAPE, True),
        (BertConfig, SHAPE | {"is_decoder": True}, False),
        (OPTConfig, OPT, False),
        (
            MambaConfig,
            dict(vocab_size=64, hidden_size=32, num_hidden_layers=2, state_size=4),
            False,
        ),
    ],
)
def test_causal_models_pass_and_some_keep_documents_apart(config_class, shape, apart):
    model = tiny(config_class, **shape)
    refuse_unless_causal(model, "m")
    model.eval()
    assert keeps_documents_apart(model) == apart == same_alone(model)
    assert not model.training


def same_alone(model) -> bool:
    """The second of two packed documents has the logits that it has alone: the truth."""
    first = torch.randint(8, 64, (1, 9))
    second = torch.randint(8, 64, (1, 7))
    together = {"input_ids": torch.cat([first, second], dim=1)}
    if "position_ids" in inspect.signature(model.forward).parameters:
        together["position_ids"] = torch.cat([torch.arange(9), torch.arange(7)])[None]
    model.config.use_cache = False
    with torch.no_grad():
        packed = model(**together).logits[0, 9:]
        alone = model(input_ids=second).logits[0]
    return torch.allclose(packed, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("config_class", [BertConfig, RobertaConfig, ElectraConfig])
def test_encoders_are_refused(config_class, dtype):
    model = tiny(config_class, **SHAPE | {"pad_token_id": 0}).to(dtype)
    with pytest.raises(BadInput, match=r"^model m is no causal model: \w+ predicts a token by"):
        refuse_unless_causal(model, "m")


def test_a_loss_on_the_token_just_read_is_refused():
    """BART's own loss, as a decoder alone, falls to nothing when the model repeats its input."""
    model = tiny(BartConfig, **BART)
    tokens = torch.randint(8, 64, (1, 12))
    out = model(input_ids=tokens, labels=tokens)
    repeats = torch.nn.functional.cross_entropy(out.logits[0], tokens[0])
    torch.testing.assert_close(out.loss, repeats)
    with pytest.raises(BadInput, match="compares each prediction with the token just read"):
        refuse_unless_causal(model, "m")


@pytest.mark.parametrize("vocab_size", [8, 16, 20])
def test_small_vocabularies_and_short_contexts_can_be_asked(vocab_size):
    shape = GPT2 | dict(vocab_size=vocab_size, n_positions=12)
    for model in (
        tiny(LlamaConfig, **SHAPE | {"vocab_size": vocab_size}),
        tiny(GPT2Config, **shape),
    ):
        refuse_unless_causal(model, "m")
        assert keeps_documents_apart(model)
    shape = OPT | dict(vocab_size=vocab_size, max_position_embeddings=16)
    assert not keeps_documents_apart(tiny(OPTConfig, **shape))


def test_a_model_that_reads_no_tokens_is_refused():
    class Deaf(torch.nn.Module):
        config = LlamaConfig()
        dtype = torch.float32
        device = torch.device("cpu")

        def __init__(self):
            super().__init__()
            self.embedding = torch.nn.Embedding(64, 4)

        def get_input_embeddings(self):
            return self.embedding

        def forward(self, input_ids, pictures):
            raise AssertionError("not reached")

    with pytest.raises(BadInput, match=r"Deaf cannot be trained on 16 tokens \(TypeError: "):
        refuse_unless_causal(Deaf(), "m")


def test_probing_changes_no_random_numbers():
    model = tiny(LlamaConfig, **SHAPE)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    refuse_unless_causal(model, "m")
    keeps_documents_apart(model)
    assert torch.equal(torch.rand(3), expected)


def test_a_model_with_damaged_weights_is_refused():
    model = tiny(LlamaConfig, **SHAPE)
    with torch.no_grad():
        model.model.norm.weight[0] = math.nan
    with pytest.raises(BadInput, match="not finite numbers before anything is trained"):
        refuse_unless_causal(model, "m")


def test_what_a_model_refuses_in_training_alone_is_refused_before():
    """Reformer takes any length, but in training only the one that its positions are made for."""
    from transformers import ReformerConfig

    layers = dict(attn_layers=["local", "local"])
    positions = dict(axial_pos_shape=[8, 8], axial_pos_embds_dim=[16, 16])
    shape = dict(vocab_size=64, hidden_size=32, feed_forward_size=64, is_decoder=True)
    heads = dict(num_attention_heads=2, attention_head_size=16)
    model = tiny(ReformerConfig, **shape, **heads, **layers, **positions)
    with pytest.raises(BadInput, match="cannot be trained on 16 tokens .*axial_pos_shape"):
        refuse_unless_causal(model, "m")
