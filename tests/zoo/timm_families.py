"""The smallest architecture of each family that timm has, and the images it is tried on.

The families are those of `timm.list_modules()` in timm 1.0.31, the architecture the one with the
fewest parameters, the side the smallest of 64, 96, 128, 192, 224, 256 and its own that it takes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import timm
import torch
from torch import Tensor, nn

from ramda_cli.models.loaded import ModelSource


@dataclass(frozen=True)
class Family:
    """How a family's model is built.

    Attributes:
        variant: its name in timm.
        side: of the square images, in pixels.
        arguments: further constructor arguments.
    """

    variant: str
    side: int
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> nn.Module:
        return timm.create_model(self.variant, pretrained=False, **self.arguments).eval()

    def inputs(self, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(2, 3, self.side, self.side, generator=generator)

    @property
    def source(self) -> ModelSource:
        return ModelSource("timm", self.variant, dict(self.arguments))


FAMILIES: dict[str, Family] = {
    "beit": Family("beit_base_patch16_224", 64, {"img_size": 64, "depth": 3}),
    "byoanet": Family("halonet_h1", 256),
    "byobnet": Family("test_byobnet", 64),
    "cait": Family("cait_xxs24_224", 64, {"img_size": 64}),
    "coat": Family("coat_tiny", 64, {"img_size": 64}),
    "convit": Family("convit_tiny", 64, {"img_size": 64}),
    "convmixer": Family("convmixer_768_32", 64),
    "convnext": Family("test_convnext", 64),
    "cpubone": Family("cpubone_nano", 64),
    "crossvit": Family("crossvit_tiny_240", 64),
    "csatv2": Family("csatv2", 64),
    "cspnet": Family("cs3darknet_focus_s", 64),
    "cspnext": Family("cspnext_tiny", 64),
    "davit": Family("davit_tiny", 64),
    "deepseek_vit": Family("deepseek_vit_412m", 224, {"depth": 2}),
    "deit": Family("deit_tiny_patch16_224", 64, {"img_size": 64}),
    "densenet": Family("densenet121", 64),
    "dla": Family("dla46x_c", 64),
    "dpn": Family("dpn48b", 64),
    "edgenext": Family("edgenext_xx_small", 64),
    "efficientformer": Family("efficientformer_l1", 224),
    "efficientformer_v2": Family("efficientformerv2_s0", 64, {"img_size": 64}),
    "efficientnet": Family("test_efficientnet", 64),
    "efficientvim": Family("efficientvim_m1", 64),
    "efficientvit_mit": Family("efficientvit_b0", 64),
    "efficientvit_msra": Family("efficientvit_m0", 64),
    "eva": Family("vit_tiny_patch16_dinov3_qkvb", 64),
    "fasternet": Family("fasternet_t0", 64),
    "fastvit": Family("fastvit_t8", 64),
    "focalnet": Family("focalnet_tiny_srf", 64),
    "gcvit": Family("gcvit_xxtiny", 64, {"img_size": 64}),
    "gemma4_vit": Family("gemma4_vit_167m", 64, {"depth": 2}),
    "ghostnet": Family("ghostnet_050", 64),
    "hardcorenas": Family("hardcorenas_b", 64),
    "hgnet": Family("hgnetv2_b0", 64),
    "hiera": Family("hiera_tiny_224", 64, {"img_size": 64}),
    "hieradet_sam2": Family("sam2_hiera_tiny", 64),
    "hrnet": Family("hrnet_w18_small", 64),
    "iformer": Family("iformer_t", 64),
    "inception_next": Family("inception_next_atto", 64),
    "inception_resnet_v2": Family("inception_resnet_v2", 96),
    "inception_v3": Family("inception_v3", 96),
    "inception_v4": Family("inception_v4", 96),
    "lcnetv2": Family("lcnetv2_small", 64),
    "levit": Family("levit_128s", 64, {"img_size": 64}),
    "lowformer": Family("lowformer_b0", 64),
    "mambaout": Family("test_mambaout", 64),
    "maxxvit": Family("test_coatnet", 64, {"img_size": 64}),
    "metaformer": Family("poolformerv2_s12", 64),
    "mlp_mixer": Family("mixer_s32_224", 64, {"img_size": 64}),
    "mobilenetv3": Family("mobilenetv3_small_050", 64),
    "mobilenetv5": Family("mobilenetv5_base", 64),
    "mobilevit": Family("mobilevit_xxs", 64),
    "mvitv2": Family("mvitv2_tiny", 64),
    "naflexvit": Family("naflexvit_base_patch16_parfac_gap", 64, {"depth": 3}),
    "nasnet": Family("nasnetalarge", 64),
    "nest": Family("nest_tiny", 64, {"img_size": 64}),
    "nextvit": Family("nextvit_small", 64),
    "nfnet": Family("test_nfnet", 64),
    "pit": Family("pit_ti_224", 64, {"img_size": 64}),
    "pnasnet": Family("pnasnet5large", 64),
    "pvt_v2": Family("pvt_v2_b0", 64),
    "qwen3_vit": Family("qwen3_vit_88m", 64, {"depth": 2}),
    "rdnet": Family("rdnet_tiny", 64),
    "regnet": Family("regnetx_002", 64),
    "repghost": Family("repghostnet_050", 64),
    "repvit": Family("repvit_m1", 64),
    "res2net": Family("res2next50", 64),
    "resnest": Family("resnest14d", 64),
    "resnet": Family("test_resnet", 64),
    "resnetv2": Family("resnetv2_18", 64),
    "rexnet": Family("rexnet_100", 64),
    "selecsls": Family("selecsls42", 64),
    "senet": Family("legacy_seresnet18", 64),
    "sequencer": Family("sequencer2d_s", 64),
    "shvit": Family("shvit_s1", 64),
    "sknet": Family("skresnet18", 64),
    "starnet": Family("starnet_s050", 64),
    "swiftformer": Family("swiftformer_xs", 64),
    "swin_transformer": Family("swin_tiny_patch4_window7_224", 64, {"img_size": 64}),
    "swin_transformer_v2": Family("swinv2_tiny_window8_256", 64, {"img_size": 64}),
    "swin_transformer_v2_cr": Family("swinv2_cr_tiny_224", 64, {"img_size": 64}),
    "tiny_vit": Family("tiny_vit_5m_224", 64, {"num_classes": 1000}),
    "tnt": Family("tnt_s_legacy_patch16_224", 64, {"img_size": 64}),
    "tresnet": Family("tresnet_m", 64),
    "twins": Family("twins_svt_small", 64),
    "vgg": Family("vgg11", 64),
    "visformer": Family("visformer_tiny", 64, {"img_size": 64}),
    "vision_transformer": Family("test_vit", 64),
    "vision_transformer_hybrid": Family("vit_tiny_r_s16_p8_224", 64, {"img_size": 64}),
    "vision_transformer_relpos": Family("test_vit_relpos", 64, {"img_size": 64}),
    "vision_transformer_sam": Family("samvit_base_patch16_224", 64),
    "vitamin": Family("vitamin_small_224", 64, {"img_size": 64}),
    "volo": Family("volo_d1_224", 64, {"img_size": 64}),
    "vovnet": Family("ese_vovnet19b_slim_dw", 64),
    "xception": Family("legacy_xception", 64),
    "xception_aligned": Family("xception41p", 64),
    "xcit": Family("xcit_nano_12_p8_224", 64),
}
