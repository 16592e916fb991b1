"""Tiny random Llamas with a byte-level BPE tokenizer, one plain and two for chat."""

import random

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = (
    "the of and to in is it that was for on are as with his they at be this from have or by one "
    "had not but what all were when we there can an your which their said if do will each about"
).split()
CHATML = (
    "{% for turn in messages %}{{ '<|im_start|>' + turn['role'] + '\n' + turn['content'] }}"
    "{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
#: ChatML that shows the tools, and the calls of them.
WITH_TOOLS = (
    "{% if tools %}{{ '<|im_start|>system\n' + (tools | tojson) + '<|im_end|>\n' }}{% endif %}"
    "{% for turn in messages %}{{ '<|im_start|>' + turn['role'] + '\n' + turn['content'] }}"
    "{% if turn.tool_calls %}{{ turn.tool_calls | tojson }}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<pad>")


def passages(count: int, seed: int = 0) -> list[str]:
    """`count` passages of 30 words, none like another."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=30)).capitalize() + "." for _ in range(count)]


def bpe_tokenizer(template: str | None = None, eos: str = "<|endoftext|>"):
    """A tokenizer whose tokens begin with a word's space, as those of GPT-2 and Llama 3 do."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=list(MARKS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    trained.train_from_iterator(passages(40), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=trained,
        eos_token=eos,
        pad_token="<pad>",
        additional_special_tokens=list(MARKS[:3]),
    )
    tokenizer.chat_template = template
    return tokenizer


def save_bpe_model(folder, template: str | None = None, eos: str = "<|endoftext|>") -> str:
    """A Llama of two layers with context 256 and that tokenizer, in `folder`."""
    tokenizer = bpe_tokenizer(template, eos)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=64,
        max_position_embeddings=256,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
