import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ramda_cli.errors import FileFormatError
from ramda_cli.export import load, read_probe, save
from ramda_cli.export.probe import (
    MOST_VALUES,
    Probe,
    StoredOutput,
    checksum,
    describe,
    make_probe,
)
from ramda_cli.export.probe_json import probe_to_json
from ramda_cli.file_header import read_header
from ramda_cli.structure.running import runner
from tests.export.helpers import CASES, Plain, rewrite, several, shrunk


def again(probe: Probe | None) -> Probe:
    """Return a probe as a file gives it back."""
    assert probe is not None
    read = read_probe({"probe": probe_to_json(probe)})
    assert read is not None
    return read


@pytest.mark.parametrize("name", CASES)
def test_a_loaded_model_gives_what_its_file_holds(name: str, tmp_path: Path) -> None:
    case = CASES[name][0]()
    path = tmp_path / "model.safetensors"
    save(case.smaller, case.plan, path)
    probe = read_probe(read_header(path))
    assert probe is not None
    model = load(path)
    wide, working = (
        runner(model, dtype)(probe.inputs()) for dtype in (torch.float64, torch.float32)
    )
    assert probe.difference(wide) <= 1e-9 * probe.scale
    assert probe.difference(working) <= 1e-4 * probe.scale
    with torch.no_grad():
        next(model.parameters()).mul_(1.001)
    assert probe.difference(runner(model, torch.float64)(probe.inputs())) > 1e-9 * probe.scale


def test_floating_inputs_are_what_the_documentation_says() -> None:
    probe = again(make_probe(nn.Linear(3, 4), torch.ones(2, 3)))
    (x,) = probe.inputs()
    # The first numbers of the Mersenne Twister seeded with 0, which never change.
    uniform = np.array([0.5488135039273248, 0.7151893663724195, 0.6027633760716439])
    assert np.array_equal(x.numpy()[0], ((uniform - 0.5) * (2 * np.sqrt(3.0))).astype(np.float32))
    assert checksum((x,)) == hashlib.sha256(x.numpy().astype("<f4").tobytes()).hexdigest()


def test_inputs_of_every_kind_come_back() -> None:
    given = {
        "x": torch.randn(2, 3, dtype=torch.bfloat16),
        "ids": torch.tensor([[2**40, -1]]),
        "mask": torch.tensor([True, False]),
        "pair": (torch.randn(()), [torch.tensor(7, dtype=torch.uint8)]),
        "more": {"use_cache": False, "none": None, "scale": 0.5, "name": "a"},
    }
    described = describe(given)
    assert described is not None
    probe = again(Probe(described, (StoredOutput((), 1, (0.0,), 0.0, 0.0),)))
    inputs = probe.inputs()
    assert list(inputs) == list(given)
    assert inputs["x"].dtype == torch.bfloat16
    assert inputs["x"].shape == (2, 3)
    assert inputs["pair"][0].shape == ()
    for key in ("ids", "mask"):
        assert torch.equal(inputs[key], given[key])
        assert inputs[key].dtype == given[key].dtype
    assert inputs["pair"][1][0].dtype == torch.uint8
    assert inputs["more"] == given["more"]
    assert torch.equal(inputs["x"], probe.inputs()["x"])


class Table(nn.Module):
    """Gives a fixed tensor."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.register_buffer("table", table)

    def forward(self, x: Tensor) -> Tensor:
        return self.table + 0 * x.sum()


def test_a_large_output_is_held_by_some_values_and_sums() -> None:
    table = torch.randn(2, 16, 1000, dtype=torch.float64)
    probe = again(make_probe(Table(table), torch.ones(2)))
    (output,) = probe.outputs
    assert len(output.values) <= MOST_VALUES
    columns = torch.arange(table.numel())[:: output.step] % 1000
    assert len(columns.unique()) == 1000  # a step of 8 would see every eighth column
    assert probe.difference([table]) == 0.0

    unseen = table.clone()
    unseen.view(-1)[1] += 0.1  # between two values
    assert output.step > 1
    difference = probe.difference([unseen])
    assert 0 < difference <= 0.1
    largest = table.clone()
    largest.view(-1)[1] = 99.0
    assert probe.difference([largest]) == pytest.approx(99.0 - table.abs().max().item())


@pytest.mark.parametrize(
    "outputs",
    [
        [],
        [torch.zeros(2, 4), torch.zeros(2, 4)],
        [torch.zeros(4, 2)],
        [torch.full((2, 4), math.nan)],
        [torch.tensor([[0.0, 0, 0, math.nan], [0, 0, 0, 0]])],
    ],
)
def test_other_shapes_and_undefined_numbers_are_no_match(outputs: list[Tensor]) -> None:
    probe = again(make_probe(Table(torch.ones(2, 4)), torch.ones(2)))
    assert math.isnan(probe.difference(outputs))


@pytest.mark.parametrize(
    ("model", "example"),
    [
        (Table(torch.full((2,), math.inf)), torch.ones(2)),
        (Table(torch.full((2,), math.nan)), torch.ones(2)),
        (nn.Identity(), torch.ones(2, dtype=torch.complex64)),
        (nn.Identity(), torch.zeros(2**16 + 1, dtype=torch.int64)),
        (nn.Identity(), (torch.ones(2), object())),
        (nn.Identity(), torch.empty(1).expand(2**26)),
        (nn.Identity(), (torch.ones(2), torch.ones(0, 2))),
        (nn.Identity(), torch.zeros(0, dtype=torch.int64)),
    ],
)
def test_what_cannot_be_held_has_no_probe(model: nn.Module, example: Any) -> None:
    assert make_probe(model, example) is None


def test_the_batch_is_two_where_it_is_free(tmp_path: Path) -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(4, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.two(self.one(x).relu()).reshape(5, 3)

    free = shrunk(Plain(), torch.randn(5, 3, 8, 8))
    fixed = shrunk(Fixed(), torch.randn(5, 4))
    for case, batch in ((free, 2), (fixed, 5)):
        save(case.smaller, case.plan, tmp_path / "m.safetensors")
        probe = read_probe(read_header(tmp_path / "m.safetensors"))
        assert probe is not None
        assert probe.inputs()[0].shape[0] == batch


def test_a_file_without_a_probe_still_loads(tmp_path: Path) -> None:
    case = several()
    path = tmp_path / "model.safetensors"
    save(case.smaller, case.plan, path)
    old = rewrite(path, document=lambda document: document.pop("probe"))
    assert read_probe(read_header(old)) is None
    load(old)


def probe_document() -> dict[str, Any]:
    class Both(nn.Module):
        def forward(self, x: Tensor, ids: Tensor) -> Tensor:
            return x * ids

    example = {"x": torch.ones(2, 3), "ids": torch.tensor([[1, 2, 3]])}
    probe = make_probe(Both(), example)
    assert probe is not None
    return {"probe": probe_to_json(probe)}


def setting(*keys: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: Any) -> None:
        for key in keys[:-1]:
            document = document[key]
        document[keys[-1]] = to

    return change


X, IDS = (("probe", "inputs", "dict", name) for name in ("x", "ids"))
OUTPUT = ("probe", "outputs", 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (setting("probe", to=[]), "cannot be read"),
        (setting("probe", "seed", to=-1), "seed -1"),
        (setting("probe", "seed", to=True), "seed True"),
        (setting("probe", "seed", to=2**32), "seed 4294967296"),
        (setting("probe", "seed", to=1), "are not those it was written with"),
        (setting("probe", "checksum", to=None), "are not those it was written with"),
        (setting("probe", "inputs", to=3), "neither positional nor by keyword"),
        (setting("probe", "inputs", to=[]), "neither positional nor by keyword"),
        (setting("probe", "inputs", to={"eval": "1"}), "an input of kind 'eval'"),
        (setting("probe", "inputs", to={"tuple": [], "dict": {}}), "too many values"),
        (setting(*X, "uniform", "dtype", to="object"), "'object'"),
        (setting(*X, "uniform", "dtype", to="int64"), "'int64'"),
        (setting(*X, "uniform", "shape", to=[2**40]), "too many inputs"),
        (setting(*X, "uniform", "shape", to=[2**25, 2]), "too many inputs"),
        (setting(*X, "uniform", "shape", to=[0, 2**70]), "an empty one"),
        (setting(*X, "uniform", "shape", to=[0, 6]), "an empty one"),
        (setting(*X, "uniform", "shape", to=[-1, -6]), "an impossible shape"),
        (setting(*X, "uniform", "shape", to=[1] * 9), "an impossible shape"),
        (setting(*X, "uniform", "shape", to=[True]), "an impossible shape"),
        (setting(*X, "uniform", "shape", to=6), "an impossible shape"),
        (setting(*IDS, "tensor", "values", to=[1, 2]), "2 values of an input of shape [1, 3]"),
        (setting(*IDS, "tensor", "values", to=[1, 2, 0.5]), "not integers"),
        (setting(*IDS, "tensor", "values", to=[1, 2, True]), "not integers"),
        (setting(*IDS, "tensor", "values", to=[1, 2, 2**63]), "cannot be read"),
        (setting(*IDS, "tensor", "values", to="abc"), "not integers"),
        (setting(*IDS, "tensor", "dtype", to="float32"), "'float32'"),
        (setting("probe", "outputs", to=[]), "no output"),
        (setting("probe", "outputs", to=3), "cannot be read"),
        (setting(*OUTPUT, "shape", to=[2**40]), "6 values of an output of shape [1099511627776]"),
        (setting(*OUTPUT, "step", to=0), "an impossible step"),
        (setting(*OUTPUT, "step", to=2), "6 values of an output"),
        (setting(*OUTPUT, "step", to=1.0), "an impossible step"),
        (setting(*OUTPUT, "values", to=[0.0] * 5000), "an impossible step"),
        (setting(*OUTPUT, "values", 0, to="1"), "a number that is none"),
        (setting(*OUTPUT, "values", 0, to=None), "a number that is none"),
        (setting(*OUTPUT, "largest", to=math.inf), "a number that is none"),
        (setting(*OUTPUT, "rms", to=10**400), "cannot be read"),
    ],
)  # fmt: skip
def test_malformed_probes_are_refused(
    change: Callable[[dict[str, Any]], None], message: str
) -> None:
    document = probe_document()
    assert read_probe(document) is not None
    change(document)
    with pytest.raises(FileFormatError) as caught:
        read_probe(document)
    assert message in str(caught.value)
    assert str(caught.value).startswith("the file is damaged: ")
    assert caught.value.hint == "copy it again, or write it again with `ramda prune`"
