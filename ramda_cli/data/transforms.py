"""Which transforms fit which images.

Inputs above 64 pixels get timm's: random resized crop and flip to train, resize and centre crop to
evaluate. Smaller inputs keep the whole picture and are shifted by up to an eighth, as is
practice on CIFAR. Only colour images are flipped: grey ones are mostly characters.
A policy comes after crop and flip, and random erasing last, on what the model would see.
"""

from collections.abc import Callable

from PIL.Image import Image
from timm.data import create_transform
from timm.data.random_erasing import RandomErasing
from timm.data.transforms import str_to_interp_mode
from torch import Tensor
from torchvision import transforms

from ramda_cli.data.memory import LARGEST_SIDE, Augmentation
from ramda_cli.data.policies import policy_of, policy_stages
from ramda_cli.models.loaded import Preprocessing

Transform = Callable[[Image], Tensor]


def small_augmentation(side: int, *, coloured: bool) -> Augmentation:
    """Return the shifts and flips for images of `side` pixels: 4 at 32, 1 at 8."""
    return Augmentation(shift=side // 8, flip=coloured)


def image_transform(
    preprocessing: Preprocessing,
    *,
    augment: str,
    random_erasing: float = 0.0,
    coloured: bool,
    side: int | None = None,
) -> Transform:
    """Return the transform of single images.

    Args:
        preprocessing: of the model.
        augment: as `data.augment`; `none` evaluates.
        random_erasing: probability for each image.
        coloured: whether the images hold colour, whatever the model wants.
        side: of images that are all small squares: they are augmented at their own size, and then
            brought to the model's.
    """
    size = (side, side) if side is not None else preprocessing.input_size[1:]
    build = _small if max(size) <= LARGEST_SIDE else _large
    steps = build(preprocessing, augment, size, coloured)
    erasing = [random_erasing_of(random_erasing)] if random_erasing > 0 else []
    return transforms.Compose([*steps, *erasing])


def random_erasing_of(probability: float) -> Callable[[Tensor], Tensor]:
    """Return timm's erasing of a rectangle of 2 to 33 % by noise, in place, with its defaults."""
    return RandomErasing(probability, mode="pixel", device="cpu")


def _large(
    preprocessing: Preprocessing, augment: str, size: tuple[int, int], coloured: bool
) -> list[Callable[..., object]]:
    policy = policy_of(augment)
    if policy is not None:
        return [*policy_stages(policy, preprocessing, size=size, flip=coloured)]
    return [
        create_transform(
            preprocessing.input_size,
            is_training=augment == "auto",
            hflip=0.5 if coloured else 0.0,
            color_jitter=None,
            interpolation=preprocessing.interpolation,
            mean=preprocessing.mean,
            std=preprocessing.std,
            crop_pct=preprocessing.crop_pct,
        )
    ]


def _small(
    preprocessing: Preprocessing, augment: str, size: tuple[int, int], coloured: bool
) -> list[Callable[..., object]]:
    interpolation = str_to_interp_mode(preprocessing.interpolation)
    steps: list[Callable[..., object]] = [transforms.Resize(size, interpolation=interpolation)]
    if augment != "none":
        augmentation = small_augmentation(min(size), coloured=coloured)
        steps.append(
            transforms.RandomCrop(size, padding=augmentation.shift, padding_mode="reflect")
        )
        steps += [transforms.RandomHorizontalFlip()] if augmentation.flip else []
    policy = policy_of(augment)
    if policy is not None:
        _, chosen, _ = policy_stages(policy, preprocessing, size=size, flip=False)
        steps.append(chosen)
    return [
        *steps,
        transforms.Resize(preprocessing.input_size[1:], interpolation=interpolation),
        transforms.ToTensor(),
        transforms.Normalize(preprocessing.mean, preprocessing.std),
    ]
