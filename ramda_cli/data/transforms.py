"""Which transforms fit which images.

Inputs above 64 pixels get timm's: random resized crop and flip to train, resize and centre crop to
evaluate. Smaller inputs keep the whole picture and are shifted by up to an eighth, as is
practice on CIFAR. Only colour images are flipped: grey ones are mostly characters.
"""

from collections.abc import Callable

from PIL.Image import Image
from timm.data import create_transform
from timm.data.transforms import str_to_interp_mode
from torch import Tensor
from torchvision import transforms

from ramda_cli.data.memory import LARGEST_SIDE, Augmentation
from ramda_cli.models.loaded import Preprocessing

Transform = Callable[[Image], Tensor]


def small_augmentation(side: int, *, coloured: bool) -> Augmentation:
    """Return the shifts and flips for images of `side` pixels: 4 at 32, 1 at 8."""
    return Augmentation(shift=side // 8, flip=coloured)


def image_transform(preprocessing: Preprocessing, *, augment: bool, coloured: bool) -> Transform:
    """Return the transform of single images for a model with this preprocessing."""
    if max(preprocessing.input_size[1:]) <= LARGEST_SIDE:
        return _small(preprocessing, augment=augment, coloured=coloured)
    return create_transform(
        preprocessing.input_size,
        is_training=augment,
        hflip=0.5 if coloured else 0.0,
        color_jitter=None,
        interpolation=preprocessing.interpolation,
        mean=preprocessing.mean,
        std=preprocessing.std,
        crop_pct=preprocessing.crop_pct,
    )


def _small(preprocessing: Preprocessing, *, augment: bool, coloured: bool) -> Transform:
    size = preprocessing.input_size[1:]
    steps: list[Callable[..., object]] = [
        transforms.Resize(size, interpolation=str_to_interp_mode(preprocessing.interpolation))
    ]
    if augment:
        augmentation = small_augmentation(min(size), coloured=coloured)
        steps.append(
            transforms.RandomCrop(size, padding=augmentation.shift, padding_mode="reflect")
        )
        steps += [transforms.RandomHorizontalFlip()] if augmentation.flip else []
    steps += [
        transforms.ToTensor(),
        transforms.Normalize(preprocessing.mean, preprocessing.std),
    ]
    return transforms.Compose(steps)
