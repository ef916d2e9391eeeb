import random

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from ramda_cli.data import transforms
from ramda_cli.data.digits import ArrayImages
from ramda_cli.data.memory import (
    Augmentation,
    MemoryBatches,
    augment,
    decode,
    draw,
    is_coloured,
    to_input,
)
from ramda_cli.data.seeds import seeded_everywhere
from ramda_cli.data.transforms import image_transform, random_erasing_of
from ramda_cli.models.loaded import Preprocessing
from tests.data.helpers import COLOUR, GREY, build


def images(count=12, side=8):
    pixels = np.random.default_rng(0).integers(0, 256, (count, side, side), dtype=np.uint8)
    return ArrayImages(pixels, np.arange(count, dtype=np.int64))


def batches(*, shuffle=True, seed=0, augmentation=None, erase=None, count=12, batch_size=5):
    return MemoryBatches(
        decode(images(count), channels=1),
        GREY,
        batch_size=batch_size,
        shuffle=shuffle,
        augmentation=augmentation,
        erase=erase,
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
    options = {"augmentation": Augmentation(shift=1, flip=True), "erase": random_erasing_of(0.5)}
    one, same, other = batches(**options), batches(**options), batches(seed=1, **options)
    first, second = [list(one) for _ in range(2)]
    same.set_epoch(1)
    torch.manual_seed(99)
    random.seed(99)
    for (x, y), (z, w) in zip(second, same, strict=True):
        assert torch.equal(x, z)
        assert torch.equal(y, w)
    assert not torch.equal(first[0][0], next(iter(other))[0])


def test_augmentation_is_reflect_padding_then_a_crop_then_a_flip():
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (200, 6, 6, 3), dtype=torch.uint8)
    generator = torch.Generator().manual_seed(0)
    out = augment(pixels, *draw(len(pixels), Augmentation(shift=2, flip=True), generator))
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
    out = augment(pixels, *draw(len(pixels), Augmentation(shift=0, flip=False), torch.Generator()))
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


def test_erasing_changes_a_rectangle_and_leaves_the_random_state_alone():
    state = random.getstate()
    plain, erased = list(batches()), list(batches(erase=random_erasing_of(1.0)))
    assert random.getstate() == state
    rectangles = set()
    for (x, _), (z, _) in zip(plain, erased, strict=True):
        for changed in (x != z)[:, 0]:
            rows, columns = changed.any(dim=1), changed.any(dim=0)
            assert torch.equal(changed, rows[:, None] & columns)
            rectangles.add((tuple(rows.tolist()), tuple(columns.tolist())))
    assert len(rectangles) > 5


def test_erasing_is_new_in_each_pass():
    loader = batches(shuffle=False, erase=random_erasing_of(1.0))
    first, second = list(loader), list(loader)
    assert not any(torch.equal(x, z) for (x, _), (z, _) in zip(first, second, strict=True))


def test_a_policy_changes_small_images_besides_the_shift():
    image, outputs = ArrayImages(np.eye(8, dtype=np.uint8)[None] * 200, np.zeros(1)).read(0), []
    for policy in ("rand-m9-n9-p0", "rand-m9-n9-p1"):
        transform = image_transform(GREY, augment=policy, coloured=False, side=8)
        with seeded_everywhere(0):
            outputs.append(transform(image))
    assert not torch.equal(*outputs)


def test_a_policy_keeps_the_shift_of_small_images_and_their_labels():
    settings = {"preprocessing": GREY, "batch_size": 1442, "limit": 200}
    seen = []
    for chosen in ("none", "rand-m0-n1-p0"):  # a policy that never does anything
        images, labels = next(iter(build("digits", augment=chosen, **settings).train))
        seen.append((images[labels.argsort(stable=True)], labels.sort().values))
    assert torch.equal(seen[0][1], seen[1][1])
    plain = {image.numpy().tobytes() for image in seen[0][0]}
    moved = sum(image.numpy().tobytes() not in plain for image in seen[1][0])
    assert 100 < moved < 200  # 8 of 9 shifts by at most one pixel


def test_grey_images_are_not_flipped_under_a_policy():
    ramp = ArrayImages(
        np.tile(np.arange(0, 256, 32, dtype=np.uint8), (40, 8, 1)), np.zeros(40, np.int64)
    )
    transform = image_transform(GREY, augment="rand-m0-n1-p0", coloured=False, side=8)
    for number in range(40):
        with seeded_everywhere(number):
            row = transform(ramp.read(number))[0, 4]
        assert row[6] > row[1]


def test_small_images_are_augmented_before_they_are_enlarged(monkeypatch):
    sizes = []
    build_stages = transforms.policy_stages

    def spied(policy, preprocessing, *, size, flip):
        sizes.append(size)
        return build_stages(policy, preprocessing, size=size, flip=flip)

    monkeypatch.setattr(transforms, "policy_stages", spied)
    bundle = build("digits", preprocessing=COLOUR, augment="rand-m9", limit=8)
    assert next(iter(bundle.train))[0].shape == (4, 3, 32, 32)
    assert sizes == [(8, 8)]
