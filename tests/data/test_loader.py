import random

import numpy as np
import pytest
import torch

from ramda_cli.models.loaded import Preprocessing
from tests.data.helpers import COLOUR, LARGE, build, image_folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return image_folder(tmp_path_factory.mktemp("photos"), size=(120, 90), each=10)


def passes(bundle, count=2):
    return [[(x.clone(), y.clone()) for x, y in bundle.train] for _ in range(count)]


def same(one, other):
    return all(
        torch.equal(x, z) and torch.equal(y, w) for (x, y), (z, w) in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("preprocessing", [LARGE, COLOUR], ids=["large", "small"])
def test_the_number_of_workers_changes_nothing(photos, preprocessing):
    here = passes(build(photos, preprocessing=preprocessing))
    there = passes(build(photos, preprocessing=preprocessing, workers=2))
    assert same(here[0], there[0])
    assert same(here[1], there[1])
    assert not same(here[0], here[1])


@pytest.mark.parametrize("policy", ["rand-m9-mstd0.5-inc1", "augmix-m3", "original-mstd0.5"])
@pytest.mark.parametrize("size", [(120, 90), (32, 32)], ids=["photos", "decoded"])
def test_the_number_of_workers_changes_no_policy(tmp_path, policy, size):
    root = image_folder(tmp_path, size=size, each=10)
    settings = {"preprocessing": LARGE, "augment": policy, "random_erasing": 0.5}
    here = passes(build(root, **settings))
    there = passes(build(root, **settings, workers=2))
    assert same(here[0], there[0])
    assert same(here[1], there[1])
    assert not same(here[0], here[1])
    plain = passes(build(root, **{**settings, "augment": "auto"}), 1)[0]
    assert not same(here[0], plain)


@pytest.mark.parametrize("preprocessing", [LARGE, COLOUR], ids=["large", "small"])
def test_erasing_replaces_a_rectangle_of_some_images(photos, preprocessing):
    settings = {"preprocessing": preprocessing, "augment": "none", "batch_size": 16}
    plain = next(iter(build(photos, **settings).train))[0]
    erased = next(iter(build(photos, **settings, random_erasing=0.5).train))[0]
    changed = (plain != erased).any(dim=1)
    shares = changed.float().mean(dim=(1, 2))
    assert 0 < (shares == 0).sum() < 16
    for image in changed[shares > 0]:
        rows, columns = image.any(dim=1), image.any(dim=0)
        assert torch.equal(image, rows[:, None] & columns)
        assert 0.015 < image.float().mean() < 0.34


def test_nothing_is_erased_or_augmented_in_evaluation(photos):
    plain = build(photos, preprocessing=LARGE)
    strong = build(photos, preprocessing=LARGE, augment="rand-m9", random_erasing=1.0)
    assert same(list(plain.val), list(strong.val))


def test_the_seed_changes_order_and_augmentation(photos):
    one, other = (passes(build(photos, preprocessing=LARGE, seed=seed), 1)[0] for seed in (0, 1))
    assert not same(one, other)


def test_a_pass_can_be_chosen(photos):
    bundle = build(photos, preprocessing=LARGE, workers=2)
    _, second = passes(bundle)
    bundle.train.set_epoch(1)
    assert same(second, passes(bundle, 1)[0])


def test_loading_leaves_the_random_state_of_the_process_alone(photos):
    bundle = build(photos, preprocessing=LARGE)
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    list(bundle.train)
    list(bundle.val)
    assert random.getstate() == states[0]
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert torch.equal(torch.get_rng_state(), states[2])


def test_evaluation_is_the_same_in_each_pass(photos):
    bundle = build(photos, preprocessing=LARGE)
    assert same(list(bundle.val), list(bundle.val))


def test_evaluation_follows_the_crop_of_the_model(photos):
    tight = Preprocessing((3, 96, 96), (0.5,) * 3, (0.25,) * 3, crop_pct=0.5)
    one, other = (build(photos, preprocessing=p) for p in (LARGE, tight))
    assert next(iter(one.val))[0].shape == (4, 3, 96, 96)
    assert not same(list(one.val), list(other.val))


@pytest.mark.parametrize("preprocessing", [LARGE, COLOUR], ids=["large", "small"])
def test_augmentation_can_be_turned_off(photos, preprocessing):
    plain = build(photos, preprocessing=preprocessing, augment="none", batch_size=16)
    first, second = (next(iter(plain.train))[0] for _ in range(2))
    assert {x.numpy().tobytes() for x in first} == {x.numpy().tobytes() for x in second}
    augmented = build(photos, preprocessing=preprocessing, batch_size=16)
    first, second = (next(iter(augmented.train))[0] for _ in range(2))
    assert {x.numpy().tobytes() for x in first} != {x.numpy().tobytes() for x in second}


def test_grey_models_get_grey_images(photos):
    preprocessing = Preprocessing((1, 96, 96), mean=(0.5,), std=(0.5,))
    images, _ = next(iter(build(photos, preprocessing=preprocessing).train))
    assert images.shape == (4, 1, 96, 96)


def test_an_incomplete_batch_is_dropped_in_training_only(photos):
    bundle = build(photos, preprocessing=LARGE, batch_size=5, eval_batch_size=3)
    assert (bundle.train_size, len(bundle.train), len(list(bundle.train))) == (16, 3, 3)
    assert sum(len(y) for _, y in bundle.val) == bundle.val_size == 4
    assert len(build(photos, preprocessing=LARGE, batch_size=64).train) == 1
