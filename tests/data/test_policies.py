import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ramda_cli.config.augmentation import AUGMENT_PATTERN
from ramda_cli.data.policies import policy_of, policy_stages
from ramda_cli.data.seeds import seeded_everywhere
from ramda_cli.models.loaded import Preprocessing
from tests.data.helpers import LARGE, picture

GREY_IMAGE = picture(0, size=(8, 8), mode="L")
COLOUR_IMAGE = picture(1, size=(32, 32))


def policy(name, image):
    mean = (0.5,) * len(image.getbands())
    preprocessing = Preprocessing((len(mean), *image.size), mean, mean)
    return policy_stages(name, preprocessing, size=image.size, flip=False)[1]


def test_auto_and_none_are_no_policies():
    assert policy_of("auto") is None
    assert policy_of("none") is None
    assert policy_of("augmix-m3") == "augmix-m3"


@settings(max_examples=150, deadline=None)
@given(st.from_regex(AUGMENT_PATTERN, fullmatch=True).filter(policy_of))
def test_whatever_the_configuration_allows_works_on_grey_and_on_colour(name):
    for image in (GREY_IMAGE, COLOUR_IMAGE):
        apply = policy(name, image)
        for number in range(4):
            with seeded_everywhere(number):
                out = apply(image)
            assert (out.mode, out.size) == (image.mode, image.size)


@pytest.mark.parametrize(
    ("name", "operation"),
    [("rand-m10-p1-inc1", "PosterizeIncreasing"), ("rand-m0-p1", "Posterize")],
)
def test_posterizing_keeps_the_highest_bit_at_least(name, operation):
    (chosen,) = policy(name, COLOUR_IMAGE).transforms
    posterize = next(op for op in chosen.ops if op.name == operation)
    assert np.array_equal(posterize(COLOUR_IMAGE), np.asarray(COLOUR_IMAGE) & 128)


@pytest.mark.parametrize("name", ["augmix-m10", "v0"])
def test_policies_of_every_kind_survive_their_strongest_posterizing(name):
    apply = policy(name, COLOUR_IMAGE)
    for number in range(100):
        with seeded_everywhere(number):
            assert apply(COLOUR_IMAGE).size == (32, 32)


def test_a_policy_follows_timms_crop_and_flip():
    image = picture(2, size=(120, 90))
    crop, chosen, to_tensor = policy_stages("rand-m9", LARGE, size=(96, 96), flip=True)
    assert [type(step).__name__ for step in crop.transforms] == [
        "RandomResizedCropAndInterpolation",
        "RandomHorizontalFlip",
    ]
    assert type(chosen.transforms[0]).__name__ == "RandAugment"
    with seeded_everywhere(0):
        assert to_tensor(chosen(crop(image))).shape == (3, 96, 96)
    crop, *_ = policy_stages("rand-m9", LARGE, size=(96, 96), flip=False)
    assert len(crop.transforms) == 1


def test_what_a_policy_uncovers_has_the_colour_of_the_mean():
    white = Image.fromarray(np.full((96, 96, 3), 255, np.uint8))
    _, chosen, _ = policy_stages("rand-m10-n9-p1", LARGE, size=(96, 96), flip=False)
    rotate = next(op for op in chosen.transforms[0].ops if op.name == "Rotate")
    with seeded_everywhere(0):
        assert np.asarray(rotate(white))[0, 0].tolist() == [128, 128, 128]
