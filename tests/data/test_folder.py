import numpy as np
import pytest
import torch
from torchvision.datasets.folder import IMG_EXTENSIONS

from ramda_cli.data.digits import ArrayImages
from ramda_cli.data.images import ImageData, with_validation
from tests.data.helpers import LARGE, build, image_folder, picture, refuse

CLASSES_HINT = (
    "put the images of each class in a folder: DIR/train/CLASS/*.jpg and DIR/val/CLASS/*.jpg, "
    "or DIR/CLASS/*.jpg"
)
UNREADABLE_HINT = "repair or delete the file; no image is skipped silently"


@pytest.mark.parametrize("val", ["val", "valid", "validation", "test"])
def test_split_folders_are_found(tmp_path, val):
    image_folder(tmp_path / "train")
    image_folder(tmp_path / val, each=2)
    bundle = build(tmp_path)
    assert bundle.class_names == ("cat", "dog")
    assert (bundle.train_size, bundle.val_size) == (10, 4)
    assert bundle.notes == ()


def test_a_folder_of_classes_is_split_the_same_way_whatever_the_seed(tmp_path):
    image_folder(tmp_path, each=10)
    one, other = build(tmp_path), build(tmp_path, seed=7)
    assert (one.train_size, one.val_size) == (16, 4)
    assert one.notes == (
        f"{tmp_path} has no validation split: 4 of 20 training images are held out, the same ones "
        "in every run",
    )
    (x, y), (z, w) = next(iter(one.val)), next(iter(other.val))
    assert torch.equal(x, z)
    assert y.tolist() == w.tolist() == [0, 0, 1, 1]


def test_the_held_out_images_are_fixed_across_versions():
    labels = np.repeat(np.arange(2, dtype=np.int64), 10)
    images = ArrayImages(np.zeros((20, 8, 8), dtype=np.uint8), labels)
    data = with_validation(ImageData(images, None, ("a", "b"), "some", ""))
    assert data.val.indices.tolist() == [4, 6, 12, 19]
    assert sorted([*data.train.indices, *data.val.indices]) == list(range(20))


def test_splits_can_be_named(tmp_path):
    for name, each in (("train", 3), ("first", 4), ("second", 5)):
        image_folder(tmp_path / name, each=each)
    bundle = build(tmp_path, train_split="second", val_split="first")
    assert (bundle.train_size, bundle.val_size) == (10, 8)
    hint = "--val-split may be first, second, train"
    refuse(tmp_path, f"{tmp_path} has no split 'third'", hint, val_split="third")


def test_hidden_folders_are_no_classes(tmp_path):
    image_folder(tmp_path / "train")
    (tmp_path / "train" / ".ipynb_checkpoints").mkdir()
    (tmp_path / ".cache").mkdir()
    assert build(tmp_path).class_names == ("cat", "dog")


def test_validation_labels_follow_the_training_classes(tmp_path):
    image_folder(tmp_path / "train", classes=("ant", "bee", "cat"))
    image_folder(tmp_path / "val", classes=("bee", "cat"), each=1)
    assert next(iter(build(tmp_path).val))[1].tolist() == [1, 2]


def test_a_validation_class_without_training_images(tmp_path):
    image_folder(tmp_path / "train")
    image_folder(tmp_path / "val", classes=("cat", "cow"))
    refuse(
        tmp_path,
        f"the class 'cow' in {tmp_path / 'val'} is not among the training classes",
        "training and validation folders need the same class names",
    )


def test_a_directory_without_classes(tmp_path):
    refuse(tmp_path, f"no classes in {tmp_path}: it has no folders with images", CLASSES_HINT)
    picture(0).save(tmp_path / "0.png")
    refuse(tmp_path, f"no classes in {tmp_path}: it has no folders with images", CLASSES_HINT)


def test_a_class_without_images(tmp_path):
    image_folder(tmp_path)
    (tmp_path / "empty").mkdir()
    hint = f"a class folder holds files of {', '.join(IMG_EXTENSIONS)}"
    refuse(tmp_path, f"no images in {tmp_path / 'empty'}", hint)


def test_too_few_images_to_hold_any_out(tmp_path):
    image_folder(tmp_path, each=2)
    refuse(
        tmp_path,
        f"{tmp_path} has too few images to hold out a validation split",
        "give at least 3 images of a class, or a separate validation split",
    )


def test_an_unreadable_small_image_is_named(tmp_path):
    image_folder(tmp_path)
    broken = tmp_path / "dog" / "3.png"
    broken.write_bytes(b"not an image")
    refuse(tmp_path, f"cannot read image {broken}", UNREADABLE_HINT)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("content", [b"not an image", None], ids=["other", "cut short"])
def test_an_unreadable_image_in_a_worker_keeps_its_message(tmp_path, workers, content):
    from ramda_cli.errors import DataError

    image_folder(tmp_path, size=(100, 80), each=5)
    broken = tmp_path / "dog" / "3.png"
    broken.write_bytes(content or broken.read_bytes()[:4000])
    bundle = build(tmp_path, preprocessing=LARGE, workers=workers)
    with pytest.raises(DataError) as caught:
        list(bundle.train) + list(bundle.val)
    assert str(caught.value) == f"cannot read image {broken}"
    assert caught.value.hint == UNREADABLE_HINT


def test_the_fingerprint_follows_names_and_sizes(tmp_path):
    one = image_folder(tmp_path / "one")
    same = image_folder(tmp_path / "same")
    prints = {build(root).fingerprint for root in (one, same)}
    assert len(prints) == 1
    (same / "cat" / "0.png").rename(same / "cat" / "9.png")
    assert build(same).fingerprint not in prints


def test_a_limit_takes_images_of_all_classes(tmp_path):
    image_folder(tmp_path / "train", each=20)
    image_folder(tmp_path / "val", each=2)
    bundle = build(tmp_path, limit=12)
    assert (bundle.train_size, bundle.val_size) == (12, 4)
    labels = torch.cat([y for _, y in bundle.train])
    assert set(labels.tolist()) == {0, 1}
