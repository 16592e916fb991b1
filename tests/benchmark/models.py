"""The models that are measured, the operations that they need, and what cards can do."""

from pathlib import Path

#: Shapes of random weights. Those of a GPU are their configs' on the hub, read 2026; in a dry run
#: they shrink to TINY.
SHAPES = {
    "llama-10m": dict(
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=6,
        intermediate_size=1024,
        max_position_embeddings=512,
        vocab_size=56,
    ),
    "smollm2-135m": dict(
        hidden_size=576,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        intermediate_size=1536,
        max_position_embeddings=8192,
        vocab_size=49_152,
    ),
    "qwen2.5-0.5b": dict(
        hidden_size=896,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        intermediate_size=4864,
        max_position_embeddings=32_768,
        vocab_size=151_936,
    ),
}
TINY = dict(
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=128,
    vocab_size=512,
)
MODELS = {"cpu": ("starter", "llama-10m"), "cuda": ("smollm2-135m", "qwen2.5-0.5b")}
#: Dense peaks in FLOP/s (fp32 without tensor cores, which is torch's default; bf16 or fp16 with
#: them) by a part of the name that torch gives the card. NVIDIA's figures for T4, L4, A100, H100
#: SXM and H200 SXM, read second-hand in 2026; those that count sparsity are halved.
PEAK_FLOPS = {
    "Tesla T4": (8.1e12, 65e12),
    "NVIDIA L4": (30.3e12, 121e12),
    "A100": (19.5e12, 312e12),
    "H100 80GB HBM3": (67e12, 989.5e12),
    "H200": (67e12, 989.5e12),
}


def flops_per_token(config, parameters: int, document_length: float) -> float:
    """Operations that training needs for one token of text in documents that keep apart.

    Two per weight and token forward, four backward: 6 N, all weights counted once, of which an
    untied input embedding is looked up and not multiplied. Attention: 12 x layers x width x length
    (Chowdhery et al., PaLM, 2022, appendix B), half of it because a token sees only what came
    before. `document_length`: tokens, the mean over tokens.
    """
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    width = config.num_attention_heads * head_dim
    multiplied = parameters
    if not config.tie_word_embeddings:
        multiplied -= config.vocab_size * config.hidden_size
    return 6 * multiplied + 6 * config.num_hidden_layers * width * document_length


def peak_flops(device_name: str, setup: str) -> float | None:
    """FLOP/s of the card at its best in the setup's precision; None where PEAK_FLOPS has no such
    card."""
    for part, (full_precision, half_precision) in PEAK_FLOPS.items():
        if part in device_name:
            return full_precision if setup.startswith("fp32") else half_precision
    return None


def save_random_model(name: str, folder: Path, tiny: bool) -> None:
    """A model of the shape `name` with random weights, and the starter's tokenizer, as `load_model`
    reads them."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    from hpkit.model import character_tokenizer

    tokenizer = character_tokenizer()
    shape = dict(SHAPES[name])
    if tiny:
        shape |= TINY
    for token in ("pad", "bos", "eos"):
        shape[f"{token}_token_id"] = getattr(tokenizer, f"{token}_token_id")
    torch.manual_seed(0)
    if name.startswith("qwen2"):
        model = Qwen2ForCausalLM(Qwen2Config(**shape, tie_word_embeddings=True))
    else:
        model = LlamaForCausalLM(LlamaConfig(**shape, tie_word_embeddings=True))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
