"""Tiny models of every causal language model that transformers knows, and of multimodal ones.

In a test::

    from ..architectures import tiny  # or `from . import tiny`

    model = tiny.build("qwen3_moe")  # random weights, float32, evaluation mode
    tokenizer = tiny.tokenizer()  # one token per byte

In a script that is run at the root of the repository, ``from tests.architectures import tiny``.

A model has its architecture's default configuration with every size made small: 2 to 5 layers
that show each kind of layer, 64 features, 4 heads, 4 experts, windows of 32 tokens, a context of
512. Most have a hundred thousand parameters.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import (
    CONFIG_MAPPING,
    AutoModelForSeq2SeqLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

SPECIAL = ("<s>", "</s>", "<pad>")
IDS = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
VOCABULARY = 320  # rows beyond the tokenizer's 259, as in many published models
FIRST_FREE_ID = 260

MULTIMODAL = (
    *("aya_vision", "cohere2_vision", "glm4v", "idefics2", "idefics3", "internvl", "lfm2_vl"),
    *("llava", "llava_next", "llava_onevision", "mistral3", "paligemma", "qwen2_vl", "qwen2_5_vl"),
    *("qwen3_vl", "qwen3_vl_moe", "smolvlm", "vipllava"),
)
"""Multimodal checkpoints that transformers' list of causal models lacks."""

_SIZES: dict[int, str] = {
    1: "n_group topk_group num_expert_group n_shared_experts num_shared_experts "
    "first_k_dense_replace moe_num_shared_experts num_dense_layers mamba_n_groups n_groups "
    "mamba_ngroups num_nextn_predict_layers moe_layer_start_index o_groups num_residual_layers "
    "num_global_layers num_res_blocks num_mem_blocks zero_expert_num index_local_blocks",
    2: "num_hidden_layers num_layers n_layer n_layers encoder_layers decoder_layers "
    "num_encoder_layers num_decoder_layers depth num_blocks attention_layers "
    "num_key_value_heads num_kv_heads kv_n_heads "
    "swa_num_key_value_heads linear_num_key_heads num_experts_per_tok num_experts_per_token "
    "moe_top_k moe_topk moe_k num_layers_per_stack hc_count hc_mult altup_num_inputs "
    "num_query_groups temporal_patch_size num_codebooks "
    "n_mamba_heads indexer_n_heads indexer_kv_heads num_random_blocks moe_layer_end_index "
    "hc_sinkhorn_iters linear_num_heads heads_per_ngram split_ngram_parts",
    4: "num_attention_heads n_head n_heads num_heads attention_heads encoder_attention_heads "
    "decoder_attention_heads num_encoder_attention_heads num_decoder_attention_heads "
    "swa_num_attention_heads linear_num_value_heads num_experts "
    "num_local_experts n_routed_experts moe_num_experts index_topk_blocks laurel_rank "
    "prompt_length mamba_num_heads mm_tokens_per_image temporal_downsample_factor block_size "
    "adapter_rank gated_norm_rank indexer_budget d_rel",
    8: "qk_rope_head_dim index_topk rotary_dim patch_size time_step_rank mamba_dt_rank "
    "chunk_size mamba_chunk_size state_size mamba_d_state ssm_state_size hc_lowrank num_buckets "
    "num_position_embeddings hidden_size_per_layer_input "
    "latent_channels index_block_size",
    16: "index_n_heads head_dim v_head_dim qk_nope_head_dim kv_channels swa_head_dim dim_head "
    "d_head attention_head_size index_head_dim indexer_head_dim linear_key_head_dim "
    "linear_value_head_dim linear_head_dim q_lora_rank kv_lora_rank o_lora_rank image_size "
    "mamba_d_head mamba_head_dim mamba_headdim crop_size router_hidden_size "
    "pronunciation_embed_dim shape_embed_dim ple_embed_dim attention_head_dim codebook_dim "
    "base_channels num_filters",
    32: "sliding_window sliding_window_size attention_window_size window_size "
    "attention_chunk_size local_attn_chunk_length lsh_attn_chunk_length keep_window_size "
    "rel_extent num_mel_bins moe_intermediate_size expert_ffn_hidden_size "
    "shared_expert_intermediate_size moe_shared_expert_intermediate_size "
    "query_pre_attn_scalar",
    64: "hidden_size d_model n_embd emb_dim embedding_dim embedding_size embed_dim lru_width "
    "word_embed_proj_dim input_embedding_size output_embedding_size attention_hidden_size "
    "hidden_size_global out_hidden_size output_channels "
    "vision_output_dim projector_input_dim projector_output_dim input_size audio_vocab_size "
    "codebook_size mamba_d_ssm pronunciation_vocab_size shape_vocab_size max_source_positions "
    "dim_model_base classifier_proj_size prompt_mid_dim "
    "ngram_vocab_size_base encoder_hash_byte_group_vocab",
    96: "intermediate_size n_inner d_inner dff ffn_dim dim_ff encoder_ffn_dim decoder_ffn_dim "
    "ffn_hidden_size intermediate_size_mlp feed_forward_size shared_intermediate_size mlp_dim "
    "dense_intermediate_size",
    256: "original_max_position_embeddings",
    512: "max_position_embeddings n_positions max_seq_len context_length max_target_positions "
    "model_max_length n_ctx",
    VOCABULARY: "vocab_size decoder_vocab_size vocab_size_per_layer_input",
}
SIZES = {name: size for size, names in _SIZES.items() for name in names.split()}
LAYERS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "decoder_layers")

COMPUTED = {"head_dim", "num_key_value_heads", "num_local_experts"}
"""Sizes that may be None in a default configuration."""

_MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
_INDEXER = {
    "indexer_n_heads": 2,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 16,
    "indexer_budget": 16,
    "indexer_compress_ratio": 4,
}
_MAMBA_HEADS = {"mamba_n_heads": 8, "mamba_d_head": 16}
_ZAMBA = {
    "num_hidden_layers": 5,
    "layers_block_type": [*(["linear_attention"] * 2), "hybrid", "linear_attention", "hybrid"],
    "attention_hidden_size": 128,
    "attention_head_dim": 32,
    "num_key_value_heads": 4,
}
_LFM2 = {"num_hidden_layers": 2, "layer_types": ["conv", "full_attention"]}
_GEMMA3N = {
    "num_hidden_layers": 4,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "num_kv_shared_layers": 2,
    "intermediate_size": [96] * 4,
    "activation_sparsity_pattern": [0.95, 0.0, 0.0, 0.0],
}

OVERRIDES: dict[str, dict[str, Any]] = {
    "big_bird": {"block_size": 64},
    "bamba": {**_MAMBA_HEADS, "attn_layer_indices": [1]},
    "blt": {"num_hidden_layers": 2},
    "cohere": {"logit_scale": 0.5},
    "cohere2": {"logit_scale": 0.5},
    "cohere2_moe": {"logit_scale": 0.5},
    "cohere2_vision": {"alignment_intermediate_size": 96, "text_config": {"logit_scale": 0.5}},
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": {"sliding_attention": _MROPE, "full_attention": _MROPE},
    },
    "dbrx": {"attn_config": {"rope_theta": 10000.0, "clip_qkv": 8.0}},
    "deepseek_v2": {"num_experts_per_tok": 2, "moe_intermediate_size": 32},
    "dots1": {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1},
    "emu3": {
        "vq_config": {"base_channels": 32, "codebook_size": 2},
        "vocabulary_map": {
            "<image>": 270,
            "<|visual token 000000|>": 271,
            "<|visual token 000001|>": 272,
            "<|extra_200|>": 273,
        },
    },
    "falcon_h1": {"mamba_n_heads": 8, "mamba_d_head": 8},
    "gemma3n_text": _GEMMA3N,
    "glm4v": {"text_config": {"rope_parameters": _MROPE}},
    "granite": {"logits_scaling": 2.0},
    "granitemoe": {"logits_scaling": 2.0},
    "granitemoehybrid": {**_MAMBA_HEADS, "layer_types": ["linear_attention", "full_attention"]},
    "hrm_text": {
        "num_layers_per_stack": 1,
        "H_cycles": 1,
        "L_cycles": 2,
        "L_bp_cycles": [1],
        "num_hidden_layers": 3,
    },
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm2": _LFM2,
    "lfm2_moe": {**_LFM2, "num_dense_layers": 1},
    "lfm2_vl": {"text_config": _LFM2},
    "mamba2": {"num_heads": 8},
    "mistral3": {"text_config": {"sliding_window": None}},
    "phi4_multimodal": {
        "audio_config": {
            "ext_pw_out_channel": 64,
            "depthwise_separable_out_channel": 64,
            "nemo_conv_channels": 64,
        }
    },
    "qwen2_5_vl": {"text_config": {"rope_parameters": _MROPE}},
    "qwen2_vl": {"text_config": {"rope_parameters": _MROPE}},
    "qwen4_exp": {"text_config": _INDEXER},
    "qwen4_exp_text": _INDEXER,
    "recurrent_gemma": {"block_types": ["recurrent", "attention"]},
    "reformer": {"axial_pos_embds": False, "attn_layers": ["local", "lsh"], "hash_seed": 0},
    "xlstm": {"qk_dim_factor": 1.0},
    "xmod": {"default_language": "en_XX"},
    "zamba": _ZAMBA,
    "zamba2": {
        **_ZAMBA,
        "n_mamba_heads": 8,
        "mamba_headdim": 16,
        "num_query_groups": 4,
        "hybrid_layer_ids": [2, 4],
    },
    "zaya": {"num_experts_per_tok": 1},
}
"""Fields that the general rule does not get right, by model type."""

NOT_BUILT: dict[str, str] = {
    "gemma3n": "its image tower needs the package timm; gemma3n_text is its language model",
    "gemma4_assistant": "drafts tokens from the hidden states of another model",
    "gemma4_unified_assistant": "drafts tokens from the hidden states of another model",
    "musicgen": "makes sound",
    "musicgen_melody": "makes sound",
    "whisper": "turns speech into text",
}
"""Model types that no causal language model can be built of, and why."""


def model_types() -> list[str]:
    """All model types that may be built, and those in ``NOT_BUILT``."""
    return sorted({*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *MULTIMODAL})


def tokenizer() -> PreTrainedTokenizerFast:
    """Make a tokenizer with one token per byte that puts ``<s>`` before a text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: index for index, symbol in enumerate([*SPECIAL, *alphabet])}
    tokens = Tokenizer(models.BPE(vocabulary, []))
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    tokens.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    bos, eos, pad = SPECIAL
    return PreTrainedTokenizerFast(
        tokenizer_object=tokens, bos_token=bos, eos_token=eos, pad_token=pad
    )


def tiny_config(model_type: str) -> PreTrainedConfig:
    """Make a small configuration of an architecture."""
    small = CONFIG_MAPPING[model_type]
    given = OVERRIDES.get(model_type, {})
    free = iter(range(FIRST_FREE_ID, VOCABULARY))
    return small(**_merged(_smaller(small().to_dict(), free), given))


def build(model_type: str, seed: int = 0) -> PreTrainedModel:
    """Build a tiny model with random weights.

    Args:
        model_type: one of `model_types` that is not in ``NOT_BUILT``.
        seed: of the weights.

    Returns:
        The class that a checkpoint of the type is loaded as, float32, in evaluation mode; the whole
        model where it has an encoder.
    """
    from quantizers.loading import auto_class

    config = tiny_config(model_type)
    whole = AutoModelForSeq2SeqLM if config.is_encoder_decoder else auto_class(config)
    torch.manual_seed(seed)
    return whole.from_config(config, dtype=torch.float32).eval()


def _smaller(fields: dict[str, Any], free: Iterator[int]) -> dict[str, Any]:
    """Changes that make a configuration small; nested configurations are followed."""
    changes: dict[str, Any] = {}
    layers = next((fields[name] for name in LAYERS if isinstance(fields.get(name), int)), None)
    per_layer = {
        name: value
        for name, value in fields.items()
        if isinstance(value, list)
        and len(value) == layers
        and layers > 2
        and not _are_indices(value)
    }
    chosen = _show_each_kind(per_layer)
    for name, value in fields.items():
        if name in per_layer:
            kept = [value[index] for index in chosen]
            changes[name] = [SIZES.get(name, item) if _is_int(item) else item for item in kept]
        elif isinstance(value, dict) and "model_type" in value:
            kind = {"model_type": value["model_type"]} if value["model_type"] else {}
            changes[name] = _smaller(value, free) | kind
        elif isinstance(value, dict) and name.startswith("rope_"):
            changes[name] = _with_sizes(value)
        elif name in IDS and _is_int(value):
            changes[name] = IDS[name]
        elif name.endswith(("_token_id", "_token_index")) and _is_int(value):
            changes[name] = next(free)
        elif name in LAYERS and value == layers and per_layer:
            changes[name] = len(chosen)
        elif name in ("initializer_range", "init_std") and value:
            changes[name] = 0.08  # the usual 0.02 is for thousands of features
        elif name in SIZES and (_is_int(value) or (value is None and name in COMPUTED)):
            changes[name] = SIZES[name]
    if "qk_rope_head_dim" in changes and "head_dim" in changes:
        changes["head_dim"] = changes["qk_rope_head_dim"]
    if "kv_lora_rank" in changes and "num_key_value_heads" in changes:
        changes["num_key_value_heads"] = SIZES["num_attention_heads"]
    if "is_decoder" in fields:
        changes["is_decoder"] = True
    return changes


def _show_each_kind(per_layer: dict[str, list[Any]]) -> list[int]:
    """Indices of layers, at least two, that show every value of every list."""
    seen: set[tuple[str, str]] = set()
    chosen = []
    for index, values in enumerate(zip(*per_layer.values(), strict=True)):
        kinds = {(name, str(value)) for name, value in zip(per_layer, values, strict=True)}
        if index < 2 or not kinds <= seen:
            chosen.append(index)
        seen |= kinds
    return chosen


def _are_indices(values: list[Any]) -> bool:
    """True for numbers of layers, not one value for each layer."""
    return all(map(_is_int, values)) and values == sorted({*values})


def _with_sizes(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _with_sizes(value)
        if isinstance(value, dict)
        else SIZES.get(name, value)
        if _is_int(value)
        else value
        for name, value in fields.items()
    }


def _merged(changes: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    merged = dict(changes)
    for name, value in given.items():
        nested = isinstance(value, dict) and isinstance(merged.get(name), dict)
        merged[name] = _merged(merged[name], value) if nested else value
    return merged


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
