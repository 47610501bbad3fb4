"""Small transformers models with random weights, built without a download."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

if TYPE_CHECKING:
    from torch import nn

T: Any = pytest.importorskip("transformers", reason="needs the extra 'capture'")

IDS = torch.randint(3, 90, (2, 24), generator=torch.Generator().manual_seed(0))
REAL = torch.arange(24) < torch.tensor([24, 16])[:, None]
"""True for real tokens; the second sequence is padded on the right."""
REAL_ON_THE_RIGHT = REAL.flip(1)
_SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
TEXT = {**_SMALL, "vocab_size": 100}


def llama() -> nn.Module:
    config = T.LlamaConfig(**TEXT, num_key_value_heads=2, eos_token_id=None)
    return made(T.LlamaForCausalLM, config)


def gemma2() -> nn.Module:
    config = T.Gemma2Config(**TEXT, num_key_value_heads=2, head_dim=16, sliding_window=8)
    return made(T.Gemma2ForCausalLM, config)


def gpt_oss() -> nn.Module:
    config = T.GptOssConfig(**TEXT, num_key_value_heads=2, head_dim=16, num_local_experts=4, sliding_window=8)
    return made(T.GptOssForCausalLM, config)


def deepseek_v3() -> nn.Module:
    """Return a model with multi-head latent attention, in which queries and keys are wider than values."""
    config = T.DeepseekV3Config(
        **TEXT, num_key_value_heads=4, moe_intermediate_size=32, n_routed_experts=4, num_experts_per_tok=2,
        n_group=1, topk_group=1, first_k_dense_replace=1, kv_lora_rank=16, q_lora_rank=16, qk_rope_head_dim=8,
        qk_nope_head_dim=16, v_head_dim=16,
    )  # fmt: skip
    return made(T.DeepseekV3ForCausalLM, config)


def bert() -> nn.Module:
    return made(T.BertModel, T.BertConfig(**TEXT))


def t5() -> nn.Module:
    config = T.T5Config(d_model=64, d_kv=16, num_layers=2, num_heads=4, d_ff=64, vocab_size=100)
    return made(T.T5Model, config)


def whisper() -> nn.Module:
    config = T.WhisperConfig(
        d_model=64, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=64, decoder_ffn_dim=64, vocab_size=100, num_mel_bins=16, max_source_positions=32,
        max_target_positions=32, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    return made(T.WhisperModel, config)


def vit() -> nn.Module:
    return made(T.ViTModel, T.ViTConfig(**_SMALL, image_size=32, patch_size=8))


def made(kind: Any, config: Any) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = kind(config)
    return model.eval()
