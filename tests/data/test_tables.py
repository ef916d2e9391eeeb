import shutil

import datasets
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value

from ramda_cli.config.schema import DataConfig
from ramda_cli.data.tables import from_splits
from ramda_cli.errors import DataError
from tests.data.helpers import build, encoded, refuse, table


def test_a_directory_gives_its_splits(tmp_path):
    table(tmp_path / "train.parquet", count=10)
    table(tmp_path / "test.parquet", count=4)
    bundle = build(tmp_path)
    assert bundle.class_names == ("cat", "dog")
    assert bundle.description == (f"{tmp_path}: 10 training and 4 validation images, 2 classes")
    assert next(iter(bundle.val))[1].tolist() == [0, 1, 0, 1]


def test_validation_is_preferred_to_test(tmp_path):
    for name, count in (("train", 10), ("validation", 6), ("test", 4)):
        table(tmp_path / f"{name}.parquet", count=count)
    assert build(tmp_path).val_size == 6
    assert build(tmp_path, val_split="test").val_size == 4


@pytest.mark.parametrize(
    ("train", "val", "sizes"),
    [
        ("train[:7]", "train[7:]", (7, 3)),
        ("train[:60%]", "train[60%:]", (6, 4)),
        ("train[2:4]", "test", (2, 4)),
        ("train", "train[:200%]", (10, 10)),
    ],
)
def test_parts_of_splits(tmp_path, train, val, sizes):
    table(tmp_path / "train.parquet", count=10)
    table(tmp_path / "test.parquet", count=4)
    bundle = build(tmp_path, train_split=train, val_split=val)
    assert (bundle.train_size, bundle.val_size) == sizes


def test_parts_do_not_overlap(tmp_path):
    path = table(tmp_path / "train.parquet", count=10)
    whole, first, rest = (
        build(tmp_path, train_split=part, val_split=part, augment="none").val
        for part in ("train", "train[:3]", "train[3:]")
    )
    images = [torch.cat([image for image, _ in part]) for part in (whole, first, rest)]
    torch.testing.assert_close(torch.cat(images[1:]), images[0])
    hint = "write rows or shares, for example train[:45000] or train[90%:]"
    refuse(path, "--train-split train[a] is no part of a split", hint, train_split="train[a]")
    where = f"{path}, split train"
    refuse(
        path,
        f"no row of {where} is in the range asked for: it has 10",
        "correct the range in --train-split or --val-split",
        train_split="train[10:]",
    )


def test_one_file_is_split(tmp_path):
    bundle = build(table(tmp_path / "all.parquet", count=20))
    assert (bundle.train_size, bundle.val_size) == (16, 4)
    assert "has no validation split: 4 of 20" in bundle.notes[0]


def test_no_progress_bar_is_drawn_and_the_setting_is_restored(tmp_path, capfd):
    path = table(tmp_path / "all.parquet", count=20)
    capfd.readouterr()
    build(path)
    assert capfd.readouterr() == ("", "")
    assert not datasets.are_progress_bars_disabled()


def test_columns_are_found_and_named(tmp_path):
    path = table(tmp_path / "a.parquet", count=10, image="img", label="fine_label")
    assert build(path).train_size == 8
    path = table(tmp_path / "b.parquet", count=10, image="x", label="y")
    assert build(path, input_key="x", target_key="y").train_size == 8
    hint = "it has x, y"
    refuse(path, f"{path} has no column 'z'", hint, target_key="z")
    refuse(path, f"{path} has no column 'z'", hint, input_key="z")


def test_missing_columns(tmp_path):
    path = str(tmp_path / "a.parquet")
    Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]}).to_parquet(path)
    hint = "name it with --input-key; the columns are text, label"
    refuse(path, f"{path} has no image column", hint)
    features = Features({"image": Image(), "weight": Value("float32")})
    columns = {"image": [encoded(0)], "weight": [0.5]}
    path = str(tmp_path / "b.parquet")
    Dataset.from_dict(columns, features=features).to_parquet(path)
    hint = "name it with --target-key; the columns are image, weight"
    refuse(path, f"{path} has no label column", hint)
    refuse(
        path,
        f"the column 'weight' of {path} does not hold classes",
        "name a column of integers or texts with --target-key",
        target_key="weight",
    )


def test_several_columns_need_a_choice(tmp_path):
    features = Features({"left": Image(), "right": Image(), "label": ClassLabel(names=["a", "b"])})
    columns = {"left": [encoded(0)], "right": [encoded(1)], "label": [0]}
    path = str(tmp_path / "a.parquet")
    Dataset.from_dict(columns, features=features).to_parquet(path)
    hint = "name it with --input-key; the columns are left, right, label"
    refuse(path, f"{path} has several image columns", hint)


def test_labels_need_not_be_class_numbers(tmp_path):
    path = table(tmp_path / "a.parquet", labels=[5, 9] * 5, names=None)
    bundle = build(path)
    assert bundle.class_names == ("5", "9")
    assert set(next(iter(bundle.val))[1].tolist()) == {0, 1}


def test_stored_bytes_without_the_type_are_images(tmp_path):
    path = str(tmp_path / "a.parquet")
    rows = {"image": [encoded(i) for i in range(10)], "label": ["b", "a"] * 5}
    Dataset.from_dict(rows).to_parquet(path)
    bundle = build(path)
    assert bundle.class_names == ("a", "b")
    assert bundle.train_size == 8


def test_hidden_labels(tmp_path):
    table(tmp_path / "train.parquet")
    table(tmp_path / "test.parquet", labels=[-1] * 10)
    refuse(
        tmp_path,
        f"{tmp_path}, split test has the label -1, which is none of the 2 classes",
        "a split whose labels are hidden (-1) cannot be used; choose with --val-split",
    )


def test_a_missing_split(tmp_path):
    table(tmp_path / "test.parquet")
    refuse(
        tmp_path,
        f"{tmp_path} has no training split",
        "name it with --train-split; the splits are test",
    )
    hint = "--train-split may be test"
    refuse(tmp_path, f"{tmp_path} has no split 'all'", hint, train_split="all")


def test_a_validation_split_without_the_columns():
    train = Dataset.from_dict({"image": [encoded(0)], "label": [0]})
    val = Dataset.from_dict({"image": [encoded(0)]})
    splits = DatasetDict({"train": train, "test": val})
    with pytest.raises(DataError, match=r"^some, split test has no column 'label'$") as caught:
        from_splits(splits, DataConfig(name="some"), name="some")
    assert caught.value.hint == "it has image"


@pytest.mark.parametrize("stored", [{"bytes": b"no", "path": "a.jpg"}, None])
def test_an_unreadable_image_is_named(tmp_path, stored):
    path = str(tmp_path / "a.parquet")
    features = Features({"image": Image(decode=False), "label": Value("int64")})
    columns = {"image": [encoded(0), stored, *map(encoded, range(8))], "label": [0, 1] * 5}
    Dataset.from_dict(columns, features=features).to_parquet(path)
    name = "a.jpg (row 1" if stored else "(row 1"
    refuse(
        path,
        f"cannot read image {name} of {path}, split train)",
        "repair or delete the file; no image is skipped silently",
    )


def test_a_file_that_is_not_parquet(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_bytes(b"not parquet")
    with pytest.raises(DataError, match=f"^cannot read {path} as parquet: ") as caught:
        build(path)
    assert caught.value.hint == (
        "check the file, and that HF_HOME is a directory that can be written"
    )


def test_the_fingerprint_follows_the_content(tmp_path):
    one = table(tmp_path / "one.parquet")
    copy = shutil.copy(one, tmp_path / "copy.parquet")
    other = table(tmp_path / "other.parquet", count=12)
    assert build(one).fingerprint == build(copy).fingerprint != build(other).fingerprint


def test_the_shards_of_a_hub_repository_are_found(tmp_path):
    (tmp_path / "data").mkdir()
    table(tmp_path / "data" / "train-00000-of-00002.parquet", count=10)
    table(tmp_path / "data" / "train-00001-of-00002.parquet", count=6)
    table(tmp_path / "data" / "validation-00000-of-00001.parquet", count=4)
    bundle = build(tmp_path)
    assert (bundle.train_size, bundle.val_size) == (16, 4)
