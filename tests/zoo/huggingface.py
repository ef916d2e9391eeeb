"""One small, randomly initialized model of each Hugging Face type, with inputs for it.

Feed-forward layers are four times as wide as the model, as in most published ones.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers as hf
from torch import Tensor, nn

BATCH = 2
LENGTH = 7
WORDS = 99
SIDE = 32

Inputs = dict[str, Any]


@dataclass(frozen=True)
class Type:
    """How a type is built.

    Attributes:
        build: returns the model.
        inputs: returns example inputs for a seed.
        generates: how it makes tokens: `causal`, `seq2seq`, or not at all.
    """

    build: Callable[[], nn.Module]
    inputs: Callable[[int], Inputs]
    generates: str = ""


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tokens(seed: int, length: int = LENGTH) -> Tensor:
    """Return token ids, none of them a special one."""
    return torch.randint(5, WORDS, (BATCH, length), generator=_generator(seed))


def text(seed: int) -> Inputs:
    mask = torch.ones(BATCH, LENGTH, dtype=torch.long)
    return {"input_ids": tokens(seed), "attention_mask": mask}


def prompt(seed: int) -> Inputs:
    # A cache among the outputs would have to keep its shape.
    return {**text(seed), "use_cache": False}


def text_pair(seed: int) -> Inputs:
    return {**prompt(seed), "decoder_input_ids": tokens(seed + 1, 5)}


def image(seed: int, side: int = SIDE) -> Inputs:
    return {"pixel_values": torch.randn(BATCH, 3, side, side, generator=_generator(seed))}


def sound(seed: int) -> Inputs:
    return {"input_values": torch.randn(BATCH, 800, generator=_generator(seed))}


def spectrogram(seed: int) -> Inputs:
    features = torch.randn(BATCH, 8, 40, generator=_generator(seed))
    return {
        "input_features": features, "decoder_input_ids": tokens(seed, 5), "use_cache": False,
    }  # fmt: skip


_ENCODER = {
    "vocab_size": WORDS, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4,
    "intermediate_size": 128, "max_position_embeddings": 64, "pad_token_id": 0,
}  # fmt: skip
_DECODER = {**_ENCODER, "use_cache": True, "bos_token_id": 1, "eos_token_id": None}
_GQA = {**_DECODER, "num_key_value_heads": 2, "head_dim": 8}
_SEQ2SEQ = {
    "vocab_size": WORDS, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2, "decoder_start_token_id": 1, "forced_eos_token_id": None,
}  # fmt: skip
_VISION = {
    "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 128,
    "image_size": SIDE, "patch_size": 8, "num_labels": 5,
}  # fmt: skip
_SPEECH = {
    "vocab_size": 32, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4,
    "intermediate_size": 128, "conv_dim": (16, 16), "conv_stride": (5, 4), "conv_kernel": (10, 4),
    "num_feat_extract_layers": 2, "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4, "classifier_proj_size": 16, "num_labels": 5,
}  # fmt: skip


def _of(model: str, config: str, /, **settings: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        return getattr(hf, model)(getattr(hf, config)(**settings)).eval()

    return build


def _encoder(prefix: str, **settings: Any) -> Type:
    sized = {**_ENCODER, "num_labels": 3, **settings}
    return Type(_of(f"{prefix}ForSequenceClassification", f"{prefix}Config", **sized), text)


def _decoder(prefix: str, /, **settings: Any) -> Type:
    name = prefix if prefix == "BloomFor" else f"{prefix}ForCausalLM"
    return Type(_of(name, f"{prefix}Config", **settings), prompt, "causal")


def _seq2seq(prefix: str, **settings: Any) -> Type:
    name = "MarianMTModel" if prefix == "Marian" else f"{prefix}ForConditionalGeneration"
    sized = {**_SEQ2SEQ, **settings}
    return Type(_of(name, f"{prefix}Config", **sized), text_pair, "seq2seq")


def _vision(prefix: str, model: str = "", side: int = SIDE, /, **settings: Any) -> Type:
    name = model or f"{prefix}ForImageClassification"
    return Type(_of(name, f"{prefix}Config", **settings), lambda seed: image(seed, side))


TYPES: dict[str, Type] = {
    "bert": _encoder("Bert"),
    "roberta": _encoder("Roberta", max_position_embeddings=66, pad_token_id=1),
    "electra": _encoder("Electra", embedding_size=24),
    "mpnet": _encoder("MPNet", max_position_embeddings=66, pad_token_id=1),
    "albert": _encoder("Albert", embedding_size=24),
    "distilbert": Type(
        _of("DistilBertForSequenceClassification", "DistilBertConfig", vocab_size=WORDS, dim=32,
            n_layers=4, n_heads=4, hidden_dim=128, max_position_embeddings=64, num_labels=3),
        text,
    ),
    "deberta-v2": _encoder(
        "DebertaV2", relative_attention=True, pos_att_type=["p2c", "c2p"], position_buckets=4,
        norm_rel_ebd="layer_norm", share_att_key=True, max_relative_positions=-1,
    ),
    "modernbert": _encoder(
        "ModernBert", global_attn_every_n_layers=4, local_attention=4, pad_token_id=0,
        cls_token_id=1, sep_token_id=2, bos_token_id=1, eos_token_id=2,
    ),
    "gpt2": Type(
        _of("GPT2LMHeadModel", "GPT2Config", vocab_size=WORDS, n_embd=32, n_layer=4, n_head=4,
            n_positions=64, bos_token_id=1, eos_token_id=None),
        prompt, "causal",
    ),
    "gpt_neox": _decoder("GPTNeoX", **_DECODER),
    "opt": _decoder(
        "OPT", vocab_size=WORDS, hidden_size=32, num_hidden_layers=4, num_attention_heads=4,
        ffn_dim=128, max_position_embeddings=64, word_embed_proj_dim=32, pad_token_id=0,
        bos_token_id=1, eos_token_id=None,
    ),
    "bloom": _decoder(
        "Bloom", vocab_size=WORDS, hidden_size=32, n_layer=4, n_head=4, bos_token_id=1,
        eos_token_id=None, pad_token_id=0,
    ),
    "falcon": _decoder(
        "Falcon", vocab_size=WORDS, hidden_size=32, num_hidden_layers=4, num_attention_heads=4,
        multi_query=True, parallel_attn=True, bias=False, alibi=False, bos_token_id=1,
        eos_token_id=None, pad_token_id=0,
    ),
    "llama": _decoder("Llama", **_GQA),
    "mistral": _decoder("Mistral", **_GQA, sliding_window=4),
    "qwen2": _decoder("Qwen2", **_GQA),
    "qwen3": _decoder("Qwen3", **_GQA),
    "gemma2": _decoder("Gemma2", **_GQA, sliding_window=4),
    "gemma3_text": Type(
        _of("Gemma3ForCausalLM", "Gemma3TextConfig", **_GQA, sliding_window=4,
            layer_types=["sliding_attention", "full_attention"] * 2),
        prompt, "causal",
    ),
    "phi3": _decoder("Phi3", **_GQA),
    "mixtral": _decoder(
        "Mixtral", **_GQA, num_local_experts=4, num_experts_per_tok=2, sliding_window=None
    ),
    "t5": Type(
        _of("T5ForConditionalGeneration", "T5Config", vocab_size=WORDS, d_model=32, d_kv=8,
            d_ff=128, num_layers=2, num_decoder_layers=2, num_heads=4, pad_token_id=0,
            eos_token_id=2, decoder_start_token_id=1, relative_attention_num_buckets=8,
            feed_forward_proj="gated-gelu"),
        text_pair, "seq2seq",
    ),
    "bart": _seq2seq("Bart"),
    "mbart": _seq2seq("MBart"),
    "marian": _seq2seq("Marian"),
    "pegasus": _seq2seq("Pegasus"),
    "whisper": Type(
        _of("WhisperForConditionalGeneration", "WhisperConfig", **{
            **_SEQ2SEQ, "num_mel_bins": 8, "max_source_positions": 20,
            "max_target_positions": 24}),
        spectrogram, "seq2seq",
    ),
    "wav2vec2": Type(_of("Wav2Vec2ForSequenceClassification", "Wav2Vec2Config", **_SPEECH), sound),
    "hubert": Type(_of("HubertForSequenceClassification", "HubertConfig", **_SPEECH), sound),
    "vit": _vision("ViT", **_VISION),
    "deit": _vision("DeiT", **_VISION),
    "beit": _vision("Beit", **_VISION, use_relative_position_bias=True),
    "dinov2": _vision("Dinov2", **{**_VISION, "mlp_ratio": 4}),
    "swin": _vision(
        "Swin", image_size=SIDE, patch_size=4, embed_dim=16, depths=[1, 2], num_heads=[2, 4],
        window_size=4, num_labels=5,
    ),
    "convnext": _vision("ConvNext", hidden_sizes=[16, 24, 32, 40], depths=[1, 1, 1, 1],
                        num_labels=5),
    "segformer": _vision(
        "Segformer", num_encoder_blocks=3, depths=[1, 1, 1], sr_ratios=[4, 2, 1],
        hidden_sizes=[16, 24, 32], patch_sizes=[7, 3, 3], strides=[4, 2, 2],
        num_attention_heads=[2, 3, 4], mlp_ratios=[4, 4, 4], num_labels=5,
    ),
    "mobilevit": _vision(
        "MobileViT", "", 64, hidden_sizes=[24, 32, 40], neck_hidden_sizes=[8, 8, 16, 16, 24, 24,
        32], num_attention_heads=4, image_size=64, num_labels=5,
    ),
    "resnet": _vision("ResNet", hidden_sizes=[16, 24, 32, 40], depths=[1, 2, 1, 1],
                      embedding_size=8, num_labels=5),
    "regnet": _vision("RegNet", hidden_sizes=[16, 24, 32, 40], depths=[1, 2, 1, 1],
                      embedding_size=8, groups_width=8, num_labels=5),
    "clip_vision": _vision("CLIPVision", "CLIPVisionModelWithProjection", projection_dim=16,
                           **{k: v for k, v in _VISION.items() if k != "num_labels"}),
    "clip_text": Type(
        _of("CLIPTextModelWithProjection", "CLIPTextConfig", **{**_ENCODER, "eos_token_id": 2,
            "bos_token_id": 1, "projection_dim": 16}),
        text,
    ),
    "siglip_vision": _vision("SiglipVision", "SiglipVisionModel",
                             **{k: v for k, v in _VISION.items() if k != "num_labels"}),
}  # fmt: skip
