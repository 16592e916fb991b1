"""A tiny model with random weights of any model type that transformers calls a causal one.

The default config of the type is shrunk by a table of the names that most configs share; a
dictionary has what is left for the odd ones.
"""

#: Tokens that a text may have; some models know no such number.
CONTEXT = 256
#: Two special tokens, 256 bytes, and room for the ids of a config's other special tokens.
VOCABULARY = 320
END = "<|endoftext|>"
PAD = "<|pad|>"
END_ID = 0
PAD_ID = 1
FIRST_SPARE_ID = 258

#: Small values of what a config calls by one of these names, wherever it has the name.
SMALL = {
    # Width.
    "hidden_size": 64,
    "d_model": 64,
    "n_embd": 64,
    "emb_dim": 64,
    "embedding_size": 64,
    "embedding_dim": 64,
    "input_embedding_size": 64,
    "output_embedding_size": 64,
    "word_embed_proj_dim": 64,
    "attention_hidden_size": 64,
    "lru_width": 64,
    "backbone_hidden_size": 64,
    "hidden_size_per_layer_input": 16,
    # Depth.
    "num_hidden_layers": 2,
    "num_layers": 2,
    "n_layer": 2,
    "n_layers": 2,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "num_encoder_layers": 2,
    "num_decoder_layers": 2,
    "num_blocks": 2,
    # Heads of attention.
    "num_attention_heads": 4,
    "n_head": 4,
    "n_heads": 4,
    "num_heads": 4,
    "attention_heads": 4,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "num_encoder_attention_heads": 4,
    "num_decoder_attention_heads": 4,
    "swa_num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_kv_heads": 2,
    "swa_num_key_value_heads": 2,
    "head_dim": 16,
    "swa_head_dim": 16,
    "d_head": 16,
    "dim_head": 16,
    "kv_channels": 16,
    "attention_head_dim": 16,
    "global_head_dim": 16,
    "rotary_dim": 8,
    "attention_head_size": 16,
    "sliding_window": 64,
    "query_pre_attn_scalar": 16,
    # Attention of low rank, and what chooses the keys that are looked at.
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "o_lora_rank": 16,
    "qk_rope_head_dim": 16,
    "qk_nope_head_dim": 16,
    "qk_head_dim": 32,
    "v_head_dim": 16,
    "index_head_dim": 16,
    "index_n_heads": 2,
    "index_topk": 64,
    # Feed-forward layers.
    "intermediate_size": 128,
    "ffn_dim": 128,
    "d_ff": 128,
    "dff": 128,
    "dim_ff": 128,
    "n_inner": 128,
    "d_inner": 128,
    "feed_forward_size": 128,
    "ffn_hidden_size": 128,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
    "intermediate_size_mlp": 128,
    "dense_intermediate_size": 128,
    "shared_intermediate_size": 32,
    # Experts.
    "num_experts": 4,
    "num_local_experts": 4,
    "moe_num_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "num_experts_per_token": 2,
    "moe_topk": 2,
    "moe_k": 2,
    "moe_intermediate_size": 32,
    "expert_ffn_hidden_size": 32,
    "shared_expert_intermediate_size": 32,
    "moe_shared_expert_intermediate_size": 32,
    "first_k_dense_replace": 1,
    "num_dense_layers": 1,
    "n_group": 1,
    "topk_group": 1,
    "num_expert_group": 1,
    # States that run from token to token.
    "state_size": 8,
    "ssm_state_size": 8,
    "mamba_d_state": 8,
    "time_step_rank": 8,
    "mamba_dt_rank": 8,
    "mamba_chunk_size": 16,
    "chunk_size": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_num_heads": 4,
    "linear_head_dim": 16,
    # Length and vocabulary.
    "max_position_embeddings": CONTEXT,
    "n_positions": CONTEXT,
    "n_ctx": CONTEXT,
    "max_seq_len": CONTEXT,
    "max_target_positions": CONTEXT,
    "context_length": CONTEXT,
    "model_max_length": CONTEXT,
    "vocab_size": VOCABULARY,
    "decoder_vocab_size": VOCABULARY,
    "unpadded_vocab_size": VOCABULARY,
    "vocab_size_per_layer_input": VOCABULARY,
}

#: Why there is no model of these types, however small.
_ASSISTANT = (
    "drafts for another model with that one's keys and values: a check of transformers' own "
    "refuses a model all of whose layers share them"
)
_MUSICGEN = "AutoModelForCausalLM makes it from the whole config, and the class takes the decoder's"
CANNOT = {
    "gemma3n": "its vision model is one of timm, which hpkit does not require",
    "gemma4_assistant": _ASSISTANT,
    "gemma4_unified_assistant": _ASSISTANT,
    "musicgen": _MUSICGEN,
    "musicgen_melody": _MUSICGEN,
}

# Parts of the dictionary below that several types have.
_GEMMA4 = {"global_head_dim": 32}
_DOTS3 = {
    "num_key_value_heads": 4,
    "swa_num_attention_heads": 4,
    "swa_num_key_value_heads": 4,
    "swa_q_lora_rank": 16,
    "swa_kv_lora_rank": 16,
    "swa_head_dim": 16,
    "swa_qk_nope_head_dim": 8,
    "swa_v_head_dim": 16,
    "shared_experts_intermediate_size": 32,
}
_QWEN4 = {
    "indexer_n_heads": 2,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 16,
    "indexer_budget": 64,
    "indexer_compress_ratio": 4,
    "hc_lowrank": 16,
    "ple_layer_ids": [1],
    "ple_embed_dim": 64,
    "heads_per_ngram": 2,
    "ngram_vocab_size_base": 64,
    "split_ngram_parts": 1,
}
_LLAMA4 = {
    "num_hidden_layers": 2,
    "no_rope_layers": [1, 0],
    "layer_types": ["chunked_attention", "full_attention"],
    "interleave_moe_layer_step": 2,
    "moe_layers": [1],
}
#: The last layers read keys and values of the first ones.
_GEMMA3N = {
    "num_hidden_layers": 4,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "num_kv_shared_layers": 2,
    "intermediate_size": [128] * 4,
    "activation_sparsity_pattern": [0.95, 0.0, 0.0, 0.0],
    "laurel_rank": 8,
}
#: What is left for single types, on top of the table. For a part of a composed config it is a
#: dictionary in the dictionary.
ODD = {
    "bamba": {"attn_layer_indices": [1], "mamba_n_heads": 8},
    "blt": {
        "encoder_hash_byte_group_vocab": 64,
        "encoder_config": {"hidden_size_global": 64, "cross_attn_k": 1},
        "decoder_config": {"hidden_size_global": 64, "cross_attn_k": 1},
        "cross_attn_k": 1,
    },
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            "full_attention": {"rope_type": "default", "rope_theta": 10000.0},
        },
    },
    "cpmant": {"prompt_types": 4, "prompt_length": 4},
    "dbrx": {"attn_config": {"rope_theta": 10000.0, "kv_n_heads": 2, "clip_qkv": 8}},
    "deepseek_v2": {"num_experts_per_tok": 2},
    "dots1": {
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "num_experts_per_tok": 2,
        "first_k_dense_replace": 1,
    },
    "dots3_note": {
        "text_config": _DOTS3,
        "vision_config": {"adapter_in_dim": 64, "adapter_out_dim": 64},
        "audio_config": {"adapter_input_size": 64, "adapter_out_dim": 64},
    },
    "dots3_note_text": _DOTS3,
    "falcon_h1": {"mamba_d_ssm": 128, "mamba_n_heads": 8, "mamba_d_head": 16},
    "flint": {"mlp_only_layers": [0]},
    "gemma3n_text": _GEMMA3N,
    "gemma4": {"text_config": _GEMMA4},
    "gemma4_text": _GEMMA4,
    "gemma4_unified": {"text_config": _GEMMA4},
    "gemma4_unified_text": _GEMMA4,
    "got_ocr2": {
        "vision_config": {
            "image_size": 64,
            "mlp_dim": 128,
            "output_channels": 16,
            "global_attn_indexes": [1],
        },
    },
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": {
        "layer_types": ["linear_attention", "full_attention"],
        "mamba_n_heads": 8,
    },
    "hunyuan_v1_dense": {"head_dim": 16},
    "hunyuan_v1_moe": {"head_dim": 16},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm2": {
        "num_hidden_layers": 2,
        "layer_types": ["conv", "full_attention"],
        "block_multiple_of": 16,
    },
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "llama4": {"text_config": _LLAMA4},
    "llama4_text": _LLAMA4,
    "longcat_flash": {"zero_expert_num": 2},
    "mamba2": {"num_heads": 8},
    "ministral": {"head_dim": 16},
    "nemotron": {"num_key_value_heads": 2},
    "nemotron_h": {"mamba_num_heads": 8, "mamba_head_dim": 16, "n_groups": 2},
    "phi4_multimodal": {
        "vision_config": {"image_size": 56, "crop_size": 56, "patch_size": 14},
        "audio_config": {
            "ext_pw_out_channel": 64,
            "depthwise_separable_out_channel": 64,
            "nemo_conv_channels": 64,
        },
    },
    "qwen4_exp": {"text_config": _QWEN4},
    "qwen4_exp_text": _QWEN4,
    "recurrent_gemma": {"num_hidden_layers": 3},
    "reformer": {
        "is_decoder": True,
        "attn_layers": ["local", "lsh"],
        "axial_pos_shape": [16, 16],
        "axial_pos_embds_dim": [32, 32],
    },
    "roc_bert": {
        "pronunciation_vocab_size": VOCABULARY,
        "pronunciation_embed_dim": 64,
        "shape_vocab_size": VOCABULARY,
        "shape_embed_dim": 64,
    },
    "xmod": {"default_language": "en_XX"},
    # A layer of attention whose weights are those of the one before it: there must be two.
    "zamba": {
        "num_hidden_layers": 4,
        "layers_block_type": ["linear_attention", "hybrid"] * 2,
        "attention_hidden_size": 128,
        "attention_head_dim": 32,
    },
    "zamba2": {"attention_hidden_size": 128, "attention_head_dim": 32},
    "zaya": {"num_experts_per_tok": 1, "router_hidden_size": 16},
}


def tiny_architecture(model_type: str, folder) -> str:
    """Save a tiny model of `model_type`, with its tokenizer, in `folder`; returns the folder."""
    import torch
    from transformers import AutoModelForCausalLM

    config = tiny_config(model_type)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    # The model of a composed config has a part of it, under which no tokenizer and no class of a
    # causal model is found. People have the whole.
    config.architectures = model.config.architectures
    config.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return str(folder)


def tiny_config(model_type: str):
    """transformers' config of `model_type`, shrunk."""
    from transformers import CONFIG_MAPPING

    kind = CONFIG_MAPPING[model_type]
    odd = ODD.get(model_type, {})
    return _shrunk(kind, kind(), odd)


def _shrunk(kind, default, odd: dict):
    """A config of class `kind` as small as the tables say; `default` has the names to look for."""
    from transformers import PreTrainedConfig

    values = _lists_of_layers(default)
    for name, value in vars(default).items():
        if isinstance(value, PreTrainedConfig):
            values[name] = _shrunk(type(value), value, odd.get(name, {}))
        elif name.endswith(("_token_id", "_token_index", "_token_ids")):
            values[name] = _special_id(name, value, len(values))
        elif name in SMALL and name not in values and isinstance(value, int):
            values[name] = SMALL[name]
    if "kv_lora_rank" in values:  # each head makes its own keys out of the few numbers kept
        values["num_key_value_heads"] = values["num_attention_heads"]
    for name, value in odd.items():
        if not isinstance(values.get(name), PreTrainedConfig):
            values[name] = value
    return kind(**values)


def _special_id(name: str, value, number: int):
    """An id that the tokenizer has, or one that no text has. `number` is another for each name."""
    if name == "pad_token_id":
        return PAD_ID
    if "bos_" in name or "eos_" in name or name == "decoder_start_token_id":
        return END_ID
    if isinstance(value, int):
        return FIRST_SPARE_ID + number % (VOCABULARY - FIRST_SPARE_ID)
    return value


def _lists_of_layers(config) -> dict:
    """Of each list that says something of each layer as much that every kind of layer occurs.

    The number of layers that is left comes with them.
    """
    layers = getattr(config, "num_hidden_layers", None)
    lists = {}
    for name, value in vars(config).items():
        if isinstance(value, list) and len(value) == layers and layers > 2:
            lists[name] = value
    if not lists:
        return {}
    chosen = []
    for value in lists.values():
        for kind in dict.fromkeys(value):
            chosen.append(value.index(kind))
    chosen = sorted(set(chosen))
    if len(chosen) == 1:
        chosen *= 2
    small = {name: [value[index] for index in chosen] for name, value in lists.items()}
    return small | {"num_hidden_layers": len(chosen)}


def byte_tokenizer():
    """A transformers PreTrainedTokenizerFast of one token per byte, with an end mark and a pad."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    # The pad comes second: some models count positions from its id on.
    tokens = [END, PAD, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(END, special=True), AddedToken(PAD, special=True)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        pad_token=PAD,
        model_max_length=CONTEXT,
    )
