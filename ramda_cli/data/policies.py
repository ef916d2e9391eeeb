"""timm's auto-augment policies: AutoAugment, RandAugment, AugMix and 3-Augment."""

from itertools import chain

from PIL.Image import Image
from timm.data import create_transform
from timm.data.auto_augment import posterize
from torchvision import transforms

from ramda_cli.models.loaded import Preprocessing


def policy_of(augment: str) -> str | None:
    """Return the policy that `data.augment` names; `auto` and `none` name none."""
    return None if augment in ("auto", "none") else augment


def policy_stages(
    policy: str, preprocessing: Preprocessing, *, size: tuple[int, int], flip: bool
) -> tuple[transforms.Compose, transforms.Compose, transforms.Compose]:
    """Return timm's training transform in three stages: crop and flip, the policy, to a tensor.

    Args:
        policy: one that the configuration allows.
        preprocessing: of the model.
        size: height and width of the images that the policy sees.
        flip: whether half of the images are mirrored left to right.
    """
    stages = create_transform(
        (preprocessing.input_size[0], *size),
        is_training=True,
        hflip=0.5 if flip else 0.0,
        color_jitter=None,
        auto_augment=policy,
        interpolation=preprocessing.interpolation,
        mean=preprocessing.mean,
        std=preprocessing.std,
        separate=True,
    )
    (chosen,) = stages[1].transforms
    operations = chosen.ops if hasattr(chosen, "ops") else chain.from_iterable(chosen.policy)
    for operation in operations:
        if operation.aug_fn is posterize:
            operation.aug_fn = _posterize
    return stages


def _posterize(image: Image, bits: int, **options: object) -> Image:
    # timm asks for no bit at high magnitudes, which Pillow 13 refuses and others paint black.
    return posterize(image, max(1, bits), **options)
