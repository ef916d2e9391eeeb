"""Batches from a few examples."""

import pytest
import torch

from ramda_cli.benchmark.inputs import batch_of
from ramda_cli.errors import BenchError


def test_examples_are_repeated_up_to_the_size():
    example = torch.arange(6.0).reshape(2, 3)
    (batch,) = batch_of((example,), 5)
    assert torch.equal(batch, example[[0, 1, 0, 1, 0]])
    (one,) = batch_of((example,), 1)
    assert torch.equal(one, example[:1])


def test_what_has_no_batch_stays_as_it_is():
    inputs = {"ids": torch.tensor([[3], [8]]), "scale": torch.tensor(2.0), "use_cache": False}
    batch = batch_of(inputs, 3)
    assert batch["ids"].tolist() == [[3], [8], [3]]
    assert batch["scale"] is inputs["scale"]
    assert batch["use_cache"] is False


def test_a_file_cannot_ask_for_all_the_memory():
    image = torch.zeros(1).expand(2, 3, 4096, 4096)
    with pytest.raises(BenchError) as caught:
        batch_of((image,), 32)
    assert str(caught.value) == "32 inputs take 6.0 GiB"
    assert caught.value.hint == "give a smaller --batch-size"
