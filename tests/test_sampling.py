"""What a model writes depends on the seed alone, and is what transformers itself would draw."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from hpkit.corpus.notation import ALPHABET
from hpkit.model import character_tokenizer, load_model, quiet_transformers
from hpkit.sampling import continued, sample

#: Of every way to remember earlier tokens: all of them, a window, both by turns, a state.
CACHED = {
    "llama": {},
    "gpt2": dict(n_embd=32, n_layer=2, n_head=2, n_positions=64),
    "mistral": dict(sliding_window=8),
    "gemma3_text": dict(sliding_window=8, head_dim=16, num_hidden_layers=7),
    "mamba": dict(state_size=4),
}
TINY = dict(
    vocab_size=56,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=2,
)


def test_sampling_depends_on_the_seed_alone(tiny_model):
    model, tokenizer = load_model(tiny_model)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = sample(model, tokenizer, 4, 20, seed=1)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(6)
    assert sample(model, tokenizer, 4, 20, seed=1) == first
    assert sample(model, tokenizer, 4, 20, seed=2) != first
    assert len(first) == 4 and all(set(text) <= set(ALPHABET) for text in first)


@pytest.mark.parametrize("kind", CACHED)
def test_what_is_drawn_is_what_transformers_draws(kind):
    """With its own cache, token for token, in batches and after prompts of several tokens."""
    torch.manual_seed(0)
    settings = dict(CACHED[kind])
    if kind != "gpt2":
        settings = TINY | settings
    with quiet_transformers():
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings)).eval()
    tokenizer = character_tokenizer()
    prompts = torch.randint(4, 52, (3, 5))
    length = dict(max_new_tokens=40, pad_token_id=tokenizer.pad_token_id, do_sample=True)
    torch.manual_seed(1)
    expected = model.generate(
        prompts, attention_mask=torch.ones_like(prompts), eos_token_id=2, **length
    )
    generate = model.generate
    given = {}

    def watched(*arguments, **settings):
        given.update(settings)
        return generate(*arguments, **settings)

    model.generate = watched
    torch.manual_seed(1)
    drawn = continued(model, tokenizer, prompts, 40, do_sample=True, eos_token_id=2)
    assert torch.equal(drawn, expected[:, 5:]) and drawn.shape[1] > 10
    # A cache of our own where all tokens are kept; the others are left alone.
    assert ("past_key_values" in given) == (kind in ("llama", "gpt2"))
