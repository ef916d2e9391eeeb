import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from ramda_cli.data.digits import ArrayImages
from ramda_cli.data.memory import (
    Augmentation,
    MemoryBatches,
    augment,
    decode,
    is_coloured,
    to_input,
)
from ramda_cli.models.loaded import Preprocessing
from tests.data.helpers import COLOUR, GREY, build


def images(count=12, side=8):
    pixels = np.random.default_rng(0).integers(0, 256, (count, side, side), dtype=np.uint8)
    return ArrayImages(pixels, np.arange(count, dtype=np.int64))


def batches(*, shuffle=True, seed=0, augmentation=None, count=12, batch_size=5):
    return MemoryBatches(
        decode(images(count), channels=1),
        GREY,
        batch_size=batch_size,
        shuffle=shuffle,
        augmentation=augmentation,
        seed=seed,
    )


def order(loader):
    return torch.cat([labels for _, labels in loader]).tolist()


def test_evaluation_keeps_the_order_and_every_image():
    loader = batches(shuffle=False)
    assert order(loader) == order(loader) == list(range(12))
    assert len(loader) == 3


def test_training_draws_a_new_order_in_each_pass_and_drops_the_rest():
    loader = batches()
    first, second = order(loader), order(loader)
    assert len(first) == len(loader) * 5 == 10
    assert first != second
    assert len(set(first)) == 10


def test_a_training_set_below_one_batch_is_one_batch():
    loader = batches(count=3)
    assert len(loader) == 1
    assert sorted(order(loader)) == [0, 1, 2]


def test_passes_depend_on_the_seed_and_their_number_alone():
    options = {"augmentation": Augmentation(shift=1, flip=True)}
    one, same, other = batches(**options), batches(**options), batches(seed=1, **options)
    first, second = [list(one) for _ in range(2)]
    same.set_epoch(1)
    torch.manual_seed(99)
    for (x, y), (z, w) in zip(second, same, strict=True):
        assert torch.equal(x, z)
        assert torch.equal(y, w)
    assert not torch.equal(first[0][0], next(iter(other))[0])


def test_augmentation_is_reflect_padding_then_a_crop_then_a_flip():
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (200, 6, 6, 3), dtype=torch.uint8)
    generator = torch.Generator().manual_seed(0)
    out = augment(pixels, Augmentation(shift=2, flip=True), generator)
    padded = F.pad(pixels.permute(0, 3, 1, 2).float(), (2, 2, 2, 2), mode="reflect")
    seen = set()
    for image, source in zip(out.permute(0, 3, 1, 2).float(), padded, strict=True):
        matches = {
            (y, x, flip)
            for y in range(5)
            for x in range(5)
            for flip in (False, True)
            if torch.equal(image.flip(2) if flip else image, source[:, y : y + 6, x : x + 6])
        }
        assert matches
        seen |= matches
    assert len(seen) > 40


def test_without_flip_nothing_is_mirrored():
    pixels = torch.arange(8, dtype=torch.uint8).repeat(50, 8, 1)[..., None]
    out = augment(pixels, Augmentation(shift=0, flip=False), torch.Generator())
    assert torch.equal(out, pixels)


def test_inputs_are_normalized_per_channel():
    pixels = torch.full((2, 4, 4, 3), 255, dtype=torch.uint8)
    preprocessing = Preprocessing((3, 4, 4), mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 2.0))
    assert torch.equal(to_input(pixels, preprocessing)[0, :, 0, 0], torch.tensor([1.0, 1.0, 0.0]))


def test_images_of_another_size_are_resized():
    pixels = torch.randint(0, 256, (2, 8, 8, 3), dtype=torch.uint8)
    assert to_input(pixels, COLOUR).shape == (2, 3, 32, 32)


def test_large_or_uneven_images_stay_on_disk():
    assert decode(images(side=65), channels=1) is None
    wide = ArrayImages(np.zeros((2, 8, 16), dtype=np.uint8), np.zeros(2, dtype=np.int64))
    assert decode(wide, channels=3) is None


def test_grey_images_are_never_flipped():
    assert is_coloured("RGB")
    assert is_coloured("P")
    for mode in ("1", "L", "LA", "I;16", "F"):
        assert not is_coloured(mode)
    assert decode(images(), channels=3).coloured is False
    assert Image.fromarray(np.zeros((4, 4, 3), dtype=np.uint8)).mode == "RGB"


def test_augmentation_can_be_turned_off():
    bundle = build("digits", preprocessing=GREY, augment="none", batch_size=1442)
    plain = {image.numpy().tobytes() for image in next(iter(bundle.train))[0]}
    again = {image.numpy().tobytes() for image in next(iter(bundle.train))[0]}
    assert plain == again
    augmented = build("digits", preprocessing=GREY, batch_size=1442)
    assert plain != {image.numpy().tobytes() for image in next(iter(augmented.train))[0]}
