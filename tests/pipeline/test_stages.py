import dataclasses

import pytest
import torch
from torch import Tensor

from ramda_cli.config.schema import ModelConfig, StructureConfig
from ramda_cli.errors import EquivalenceError
from ramda_cli.observer import SilentObserver
from ramda_cli.pipeline import inspect
from ramda_cli.pipeline.proving import proof_batches, prove
from ramda_cli.verification.proof import FLOAT64_TOLERANCE
from tests.export.helpers import Case, shrunk
from tests.training.problems import digits, net


@pytest.fixture(scope="module")
def case() -> Case:
    return shrunk(net(), torch.zeros(2, 1, 8, 8))


def test_the_proof_has_the_first_64_images_and_probes(case: Case) -> None:
    data = digits()
    batches = list(proof_batches(data.val))
    assert [len(batch) for batch in batches] == [16, 16, 16, 16]
    first = next(iter(data.val))[0]
    assert torch.equal(torch.cat(batches), first[:64])
    proven = prove(case.model, case.smaller, proof_batches(data.val), data)
    assert proven.proof.checks[0].inputs == 64 + 2 * 16
    assert proven.before == proven.after


def test_small_batches_are_gathered_up_to_64_images() -> None:
    small = [(torch.zeros(size, 1), torch.zeros(size)) for size in (10, 40, 30, 30)]
    sizes = [len(batch) for batch in proof_batches(small)]
    assert sum(sizes) == 64
    assert max(sizes) == 16


def test_a_difference_stops_the_run_with_its_size(case: Case) -> None:
    data = digits()
    changed = shrunk(net(), torch.zeros(2, 1, 8, 8)).smaller
    with torch.no_grad():
        changed.fc.bias += 1e-6
    with pytest.raises(EquivalenceError) as caught:
        prove(case.model, changed, proof_batches(data.val))
    assert "differs in float64 by 1e-06, more than the tolerance" in str(caught.value)
    assert FLOAT64_TOLERANCE == 1e-9


def test_inspection_counts_what_can_go() -> None:
    model = ModelConfig(name="digits-resnet")
    document = inspect(model, StructureConfig(keep=("conv1",)), observer=SilentObserver())
    groups = {group["name"]: group for group in document["groups"]}  # type: ignore[attr-defined]
    assert "conv1" not in groups
    assert groups["stages.0.conv1"]["channels"] == 32
    # One 3 x 3 convolution and the norm before, and one after, all of it at 8 x 8.
    assert groups["stages.0.conv1"]["params"] == 32 * (32 * 9 + 2) + 32 * 32 * 9
    assert groups["stages.0.conv1"]["macs"] == 2 * 32 * 32 * 9 * 64
    fixed = {entry["name"]: entry["reason"] for entry in document["fixed"]}  # type: ignore[attr-defined]
    assert fixed["conv1"] == "kept by the pattern conv1"
    assert document["size"]["params"] == sum(  # type: ignore[index]
        p.numel() for p in load_dense().parameters()
    )


def load_dense() -> torch.nn.Module:
    from ramda_cli.models.loading import load_model

    return load_model(ModelConfig(name="digits-resnet")).module


def test_a_model_that_is_proven_is_left_as_it_is(case: Case) -> None:
    before: dict[str, Tensor] = {k: v.clone() for k, v in case.model.state_dict().items()}
    proven = prove(case.model, case.smaller, [torch.zeros(2, 1, 8, 8)])
    assert all(torch.equal(before[k], v) for k, v in case.model.state_dict().items())
    assert dataclasses.is_dataclass(proven)
