import numpy as np
import pytest
import torch

from ramda_cli.data.digits import digits
from ramda_cli.models.loaded import Preprocessing
from tests.data.helpers import COLOUR, GREY, build


def test_every_fifth_image_of_each_class_is_held_out():
    data = digits()
    held_out, train = (np.bincount(part.labels) for part in (data.val, data.train))
    assert held_out.sum() + train.sum() == 1797
    assert np.array_equal(held_out, (held_out + train) // 5)


def test_no_image_is_in_both_splits():
    data = digits()
    train = {image.tobytes() for image in data.train.pixels}
    assert not train & {image.tobytes() for image in data.val.pixels}


def test_the_bundle_describes_itself():
    bundle = build("digits", preprocessing=GREY)
    assert bundle.description == (
        "digits (scikit-learn): 1,442 training and 355 validation images, 10 classes"
    )
    assert (bundle.train_size, bundle.val_size) == (1442, 355)
    assert bundle.class_names == tuple("0123456789")
    assert bundle.notes == ()
    assert len(bundle.fingerprint) == 64


@pytest.mark.parametrize(
    "preprocessing", [GREY, COLOUR, Preprocessing((3, 96, 64), (0.5,) * 3, (0.5,) * 3)]
)
def test_images_have_the_size_that_the_model_wants(preprocessing):
    bundle = build("digits", preprocessing=preprocessing)
    for images, labels in (next(iter(bundle.train)), next(iter(bundle.val))):
        assert images.shape[1:] == preprocessing.input_size
        assert images.dtype == torch.float32
        assert labels.dtype == torch.int64
        assert images.is_contiguous()


def test_the_pixels_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    raw = load_digits()
    bundle = build("digits", preprocessing=GREY, eval_batch_size=400)
    images, labels = next(iter(bundle.val))
    first = np.flatnonzero(raw.target == labels[0].item())[4]
    assert np.abs(images[0, 0].numpy() * 16 - raw.images[first]).max() < 0.05
