"""What is hidden of images: how much, how coarsely, when the same, and what is not taken."""

import re
from dataclasses import replace

import pytest
import torch

from ramda_cli.data.masked_images import draw_squares, hidden_squares
from ramda_cli.errors import DataError
from ramda_cli.models.loaded import Masking
from tests.data.helpers import COLOUR, build, table

MASKING = Masking(patch_size=4, square=8)
HIDING = replace(COLOUR, masking=MASKING)
SIZES = {"mask_patch": 8, "batch_size": 4, "augment": "none"}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return table(tmp_path_factory.mktemp("images") / "data.parquet", count=40)


def passes(data, count=1):
    return [list(data) for _ in range(count)]


def equal(one, other):
    return all(
        torch.equal(a["pixel_values"], b["pixel_values"])
        and torch.equal(a["bool_masked_pos"], b["bool_masked_pos"])
        and torch.equal(t.isnan(), u.isnan())
        for (a, t), (b, u) in zip(one, other, strict=True)
    )


def test_squares_are_hidden_whole_and_targets_are_numbers_there_alone(path) -> None:
    data = build(path, preprocessing=HIDING, **SIZES)
    assert data.task.name == "masked-image-modeling"
    assert data.class_names == ()
    assert data.description.endswith("images, 10 of 16 squares of 8 pixels hidden")
    inputs, targets = next(iter(data.train))
    images, told = inputs["pixel_values"], inputs["bool_masked_pos"]
    assert images.shape == targets.shape == (4, 3, 32, 32)
    assert told.dtype == torch.bool
    assert told.shape == (4, 64)
    hidden = ~targets.isnan()
    assert torch.equal(targets[hidden], images[hidden])
    # Every square of 8 x 8 pixels is hidden as a whole, in each channel, ten of an image's 16.
    squares = hidden.unfold(2, 8, 8).unfold(3, 8, 8).flatten(4)
    assert torch.equal(squares.all(-1), squares.any(-1))
    assert (squares.any(-1).flatten(2).sum(-1) == 10).all()
    # The model is told of every patch of 4 x 4 what its pixels are.
    patches = hidden[:, 0].unfold(1, 4, 4).unfold(2, 4, 4).flatten(3).all(-1)
    assert torch.equal(patches.flatten(1), told)


def test_masks_of_training_are_new_in_each_pass_and_those_of_a_resumed_run_the_same(path) -> None:
    data = build(path, preprocessing=HIDING, **SIZES)
    first, second = passes(data.train, 2)
    assert not torch.equal(first[0][0]["bool_masked_pos"], second[0][0]["bool_masked_pos"])
    assert not torch.equal(first[0][0]["bool_masked_pos"], first[1][0]["bool_masked_pos"])
    again = build(path, preprocessing=HIDING, **SIZES).train
    again.set_epoch(1, first=3)
    assert equal(list(again), second[3:])
    other = build(path, preprocessing=HIDING, seed=1, **SIZES).train
    (others,) = passes(other)
    assert not torch.equal(first[0][0]["bool_masked_pos"], others[0][0]["bool_masked_pos"])


def test_masks_of_validation_are_always_the_same(path) -> None:
    data = build(path, preprocessing=HIDING, **SIZES)
    first, second = passes(data.val, 2)
    assert equal(first, second)
    small = build(path, preprocessing=HIDING, seed=5, eval_batch_size=3, **SIZES).val

    def masks(batches):
        return torch.cat([inputs["bool_masked_pos"] for inputs, _ in batches])

    assert torch.equal(masks(first), masks(small))


def test_processes_that_share_a_batch_hide_what_one_alone_would(path) -> None:
    (whole,) = passes(build(path, preprocessing=HIDING, **SIZES).train)
    parts = []
    for part in range(2):
        train = build(path, preprocessing=HIDING, **SIZES).train
        train.take_part(part, 2)
        parts.append(list(train))
    assert [len(part) for part in parts] == [len(whole), len(whole)]
    joined = [
        ({k: torch.cat([a[k], b[k]]) for k in a}, torch.cat([t, u]))
        for (a, t), (b, u) in zip(*parts, strict=True)
    ]
    assert equal(joined, whole)


def test_of_every_image_as_many_squares_are_hidden_rounded_up() -> None:
    draws = torch.Generator().manual_seed(0)
    hidden = draw_squares(50, Masking(16), 224, draws)
    assert hidden.shape == (50, 7, 7)
    assert (hidden.flatten(1).sum(1) == 30).all()  # of 29.4
    assert 0.4 < float(hidden.float().mean(0).min()) < float(hidden.float().mean(0).max()) < 0.85
    assert hidden_squares(Masking(1, square=1, ratio=0.07), 10) == 7


@pytest.mark.parametrize(
    ("square", "message", "hint"),
    [
        (
            6,
            "squares of 6 pixels cannot be hidden from patches of 4",
            "data.mask_patch must be a multiple of 4",
        ),
        (
            12,
            "images of 32 pixels cannot be cut into squares of 12 to hide",
            "data.mask_patch must divide 32 and be a multiple of 4",
        ),
    ],
)
def test_squares_that_do_not_fit_are_refused(path, square, message, hint) -> None:
    with pytest.raises(DataError, match=f"^{re.escape(message)}$") as caught:
        build(path, preprocessing=HIDING, mask_patch=square)
    assert caught.value.hint == hint
