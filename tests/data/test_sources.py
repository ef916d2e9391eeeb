from types import SimpleNamespace

import datasets
import huggingface_hub
import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from ramda_cli.data import hub
from ramda_cli.models.loaded import Preprocessing
from tests.data.helpers import build, encoded, image_folder, refuse

NAMES = "digits, imagenet, torch/cifar10, torch/cifar100, torch/mnist"
ANY = f"give a directory of images, a parquet file, a hub id, or one of {NAMES}"


def test_similar_names_are_suggested():
    refuse("digit", "unknown data set 'digit'", "did you mean digits?")
    refuse("imagenett", "unknown data set 'imagenett'", "did you mean imagenet?")


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/else", "train.parquet", "~/nowhere"])
def test_a_path_that_does_not_exist(name):
    refuse(name, f"no such file or directory: {name}", "check the path given to --data")


def test_a_file_of_another_kind(tmp_path):
    path = tmp_path / "notes.txt"
    path.touch()
    hint = "give a parquet file or a directory of images"
    refuse(path, f"{path} is not a data set", hint)


def test_images_of_other_channels():
    refuse(
        "digits",
        "the model takes images of 4 channels",
        "images are loaded in grey (1 channel) or colour (3 channels)",
        preprocessing=Preprocessing((4, 8, 8), (0.0,) * 4, (1.0,) * 4),
    )


def test_a_hub_id_without_network():
    refuse(
        "someone/birds",
        "cannot get the data set 'someone/birds': there is no such file or directory, and the hub "
        "cannot be reached (HF_HUB_OFFLINE=1)",
        f"{ANY}; a cached copy is used with HF_HUB_OFFLINE=1",
    )


def online(monkeypatch, error=None):
    calls = []

    def dataset_info(self, name, timeout):
        calls.append(name)
        if error is not None:
            raise error

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    return calls


def test_the_hub_is_asked_once(monkeypatch):
    calls = online(monkeypatch, OSError("no route to host"))
    refuse(
        "someone/birds",
        "cannot get the data set 'someone/birds': there is no such file or directory, and the hub "
        "cannot be reached (no route to host)",
        f"{ANY}; a cached copy is used with HF_HUB_OFFLINE=1",
    )
    assert calls == ["someone/birds"]


def test_an_unknown_hub_id(monkeypatch):
    online(monkeypatch, RepositoryNotFoundError("no", response=_response()))
    refuse("someone/birds", "unknown data set 'someone/birds'", ANY)


def test_a_gated_hub_id(monkeypatch):
    online(monkeypatch, GatedRepoError("no", response=_response()))
    refuse(
        "someone/birds",
        "someone/birds asks for an accepted licence",
        "accept it at the hub's page of someone/birds and set HF_TOKEN",
    )


def _response():
    return SimpleNamespace(headers={}, request=None, status_code=401)


def birds():
    features = Features({"image": Image(), "label": ClassLabel(names=["tit", "owl"])})
    rows = {"image": [encoded(i) for i in range(10)], "label": [0, 1] * 5}
    return DatasetDict({"train": Dataset.from_dict(rows, features=features)})


def test_a_hub_id(monkeypatch):
    online(monkeypatch)
    splits = birds()
    monkeypatch.setattr(datasets, "load_dataset", lambda name: splits)
    bundle = build("someone/birds")
    assert bundle.class_names == ("tit", "owl")
    assert bundle.fingerprint == splits["train"]._fingerprint


def test_a_data_set_that_the_library_refuses(monkeypatch):
    online(monkeypatch)

    def load_dataset(name):
        raise ValueError("Config name is missing.\nPlease pick one")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    refuse(
        "someone/birds",
        "cannot load the data set 'someone/birds': Config name is missing.",
        "download the subset you need and pass its directory",
    )


def test_imagenet_names_every_way_to_it(monkeypatch):
    monkeypatch.setattr(hub, "get_token", lambda: None)
    refuse(
        "imagenet",
        "imagenet is not on this machine",
        "pass --data-dir DIR or set IMAGENET_DIR to a directory with train/ and val/, or set "
        "HF_TOKEN to an account that may read ILSVRC/imagenet-1k",
    )


def test_imagenet_from_a_directory(monkeypatch, tmp_path):
    image_folder(tmp_path / "train")
    image_folder(tmp_path / "val", each=1)
    assert build("imagenet", data_dir=tmp_path).train_size == 10
    monkeypatch.setenv("IMAGENET_DIR", str(tmp_path))
    assert build("imagenet").train_size == 10
    none = tmp_path / "none"
    refuse("imagenet", f"no directory {none}", "correct --data-dir", data_dir=none)
    monkeypatch.setenv("IMAGENET_DIR", str(none))
    refuse("imagenet", f"no directory {none}", "correct IMAGENET_DIR")


def test_imagenet_from_the_hub_with_a_token(monkeypatch):
    monkeypatch.setattr(hub, "get_token", lambda: "token")
    calls = online(monkeypatch)
    monkeypatch.setattr(datasets, "load_dataset", lambda name: birds())
    assert build("imagenet").train_size == 8
    assert calls == ["ILSVRC/imagenet-1k"]


def test_unknown_torchvision_sets():
    known = ("cifar10", "cifar100", "fashion_mnist", "kmnist", "mnist", "qmnist")
    hint = "torch/NAME may be " + ", ".join(f"torch/{name}" for name in known)
    refuse("torch/cifar11", "unknown data set 'torch/cifar11'", hint)


def test_torchvision_sets_need_a_directory():
    refuse(
        "torch/cifar10",
        "torch/cifar10 needs a directory",
        "pass --data-dir DIR; the data is downloaded there when it is absent",
    )


def test_a_download_that_fails(monkeypatch, tmp_path):
    def create_dataset(name, **options):
        raise RuntimeError("Error downloading\nmore")

    monkeypatch.setattr("ramda_cli.data.torchvision_sets.create_dataset", create_dataset)
    refuse(
        "torch/cifar10",
        f"cannot get torch/cifar10 into {tmp_path}: Error downloading",
        "go online, or give the directory that holds it with --data-dir",
        data_dir=tmp_path,
    )


def test_a_torchvision_set(monkeypatch, tmp_path):
    class Stored:
        classes = ("a", "b")

        def __init__(self, count):
            self.data = np.zeros((count, 32, 32, 3), dtype=np.uint8)
            self.targets = [i % 2 for i in range(count)]

        def __getitem__(self, index):
            from PIL import Image

            return Image.fromarray(self.data[index]), self.targets[index]

    def create_dataset(name, *, root, split, download):
        assert (name, root, download) == ("torch/cifar10", str(tmp_path), True)
        return Stored({"train": 8, "validation": 4}[split])

    monkeypatch.setattr("ramda_cli.data.torchvision_sets.create_dataset", create_dataset)
    bundle = build("torch/cifar10", data_dir=tmp_path)
    assert (bundle.train_size, bundle.val_size) == (8, 4)
    assert bundle.class_names == ("a", "b")
