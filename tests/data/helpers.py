"""Small data sets on disk, and the check of an error's exact text."""

import io
import re

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value
from PIL import Image as Pillow

from ramda_cli.config.schema import DataConfig
from ramda_cli.data.build import build_data
from ramda_cli.errors import DataError
from ramda_cli.models.loaded import Preprocessing

COLOUR = Preprocessing((3, 32, 32), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
GREY = Preprocessing((1, 8, 8), mean=(0.0,), std=(1.0,))
LARGE = Preprocessing((3, 96, 96), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


def build(name, *, preprocessing=COLOUR, seed=0, **settings):
    settings = {"batch_size": 4, "workers": 0, **settings}
    return build_data(DataConfig(name=str(name), **settings), preprocessing, seed=seed)


def refuse(name, message, hint, **settings):
    with pytest.raises(DataError, match=f"^{re.escape(message)}$") as caught:
        build(name, **settings)
    assert caught.value.hint == hint


def picture(number, *, size=(32, 32), mode="RGB"):
    pixels = np.random.default_rng(number).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    return Pillow.fromarray(pixels).convert(mode)


def image_folder(root, *, classes=("cat", "dog"), each=5, size=(32, 32), suffix="png"):
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(each):
            picture(10 * label + number, size=size).save(root / name / f"{number}.{suffix}")
    return root


def encoded(number):
    buffer = io.BytesIO()
    picture(number).save(buffer, format="PNG")
    return {"bytes": buffer.getvalue(), "path": f"{number}.png"}


def table(path, *, count=10, image="image", label="label", labels=None, names=("cat", "dog")):
    """Write a parquet file in the Hugging Face image layout."""
    kind = ClassLabel(names=list(names)) if names else Value("int64")
    columns = {
        image: [encoded(i) for i in range(count)],
        label: labels if labels is not None else [i % 2 for i in range(count)],
    }
    Dataset.from_dict(columns, features=Features({image: Image(), label: kind})).to_parquet(path)
    return path
