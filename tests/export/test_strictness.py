"""A file is untrusted: whatever is odd in it is refused with one line, and nothing is run."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ramda_cli.errors import FileFormatError, ModelError, RamdaError
from ramda_cli.export import build_dense, load, save
from ramda_cli.export.program_json import program_from_json, program_to_json
from ramda_cli.surgery.program import GraphProgram, Operation, Reference
from tests.export.helpers import plain, resnet, rewrite

COPY_AGAIN = "copy it again, or write it again with `ramda prune`"


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("native") / "model.safetensors"
    case = resnet()
    assert save(case.smaller, case.plan, path) == "native"
    return path


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "model.safetensors"
    case = plain()
    assert save(case.smaller, case.plan, path) == "graph"
    return path


def refused(path: Path, message: str, kind: type[RamdaError] = FileFormatError) -> RamdaError:
    with pytest.raises(kind) as caught:
        load(path)
    assert message in str(caught.value)
    assert caught.value.hint
    return caught.value


def setting(*keys: str, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        for key in keys[:-1]:
            document = document[key]
        document[keys[-1]] = to

    return change


def test_an_unchanged_copy_loads(native: Path, graph: Path) -> None:
    load(rewrite(native))
    load(rewrite(graph))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (setting("layout", to="pickle"), "cannot be loaded: its layout is 'pickle'"),
        (setting("layout", to=["native"]), "its layout is ['native']"),
        (setting("source", to=None), "its source is None None"),
        (setting("source", "kind", to="file"), "its source is 'file' 'resnet10t'"),
        (setting("source", "name", to=["resnet10t"]), "its source is 'timm' ['resnet10t']"),
        (setting("source", "arguments", to=[]), "its constructor arguments are missing"),
        (setting("patches", "conv1.0", to=[3]), "its patches are not attributes by module"),
        (setting("patches", "fc", to={"weight": 3}), "sets fc.weight to 3"),
        (setting("patches", "fc", to={"forward": 3}), "sets fc.forward to 3"),
        (setting("patches", "fc", to={"__class__": 3}), "sets fc.__class__ to 3"),
        (setting("patches", "fc", to={"in_features": "3"}), "sets fc.in_features to '3'"),
        (setting("patches", "fc", to={"in_features": True}), "sets fc.in_features to True"),
        (setting("patches", "fc", to={"in_features": 0}), "sets fc.in_features to 0"),
        (setting("patches", "nowhere", to={"groups": 1}), "sets nowhere.groups to 1"),
        (setting("aliases", to={"x": "conv1.0.weight"}), "x is not part of the model"),
        (setting("aliases", to={"x": "y"}), "x shares 'y', which is missing"),
        (setting("aliases", to={"x": ["fc.bias"]}), "x shares ['fc.bias'], which is missing"),
        (setting("aliases", to={"fc.bias": "bn1.bias"}), "fc.bias shares bn1.bias and is there"),
        (
            setting("source", "arguments", to={"num_classes": 10**12}),
            "its dense model has 513,000,004,928,374 elements, the file",
        ),
        (
            setting("source", "arguments", "block_args", to={"unknown": 1}),
            "cannot be built with the arguments in",
        ),
        (setting("source", "arguments", "layers", to="many"), "cannot be built"),
        (setting("source", "arguments", "output_stride", to=7), "cannot be built"),
    ],
)
def test_odd_documents_are_refused(
    native: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    kind = ModelError if "cannot be built" in message else FileFormatError
    refused(rewrite(native, document=change), message, kind)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("fc.bias"), "fc.bias is missing"),
        (lambda t: t.update({"../../etc/x": torch.ones(1)}), "../../etc/x is not part of the mod"),
        (lambda t: t.update({"fc.bias": torch.ones(8)}), "fc.bias has shape (8,), above (7,)"),
        (lambda t: t.update({"fc.bias": torch.ones(7, 1)}), "fc.bias has shape (7, 1), above (7,)"),
        (lambda t: t.update({"fc.bias": torch.ones(7).int()}), "fc.bias has dtype torch.int32"),
    ],
)
def test_tensors_that_do_not_fit_the_class_are_refused(
    native: Path, change: Callable[[dict[str, torch.Tensor]], object], message: str
) -> None:
    error = refused(rewrite(native, tensors=change), message)
    assert error.hint == COPY_AGAIN


@pytest.mark.parametrize("name", ["../../x", "", "a..b", "forward", "program.x", "fc", "training"])
def test_tensor_names_cannot_reach_what_they_should_not(graph: Path, name: str) -> None:
    def rename(document: dict[str, Any]) -> None:
        tensors = document["program"]["tensors"]
        key = next(k for k, v in tensors.items() if v == "mix.bias")
        tensors[key] = name

    path = rewrite(graph, document=rename, tensors=lambda t: t.update({name: t.pop("mix.bias")}))
    if name == "../../x":
        # No more than a name: ".." is an impossible module, and no file is touched.
        refused(path, "a tensor has an impossible name")
    else:
        refused(path, "cannot be loaded")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("mix.bias"), "mix.bias is missing"),
        (lambda t: t.update(extra=torch.ones(1)), "extra is not part of the model"),
        (lambda t: t.update({"mix.bias": torch.ones(16).long()}), "an integer tensor is not li"),
    ],
)
def test_tensors_that_do_not_fit_the_graph_are_refused(
    graph: Path, change: Callable[[dict[str, torch.Tensor]], object], message: str
) -> None:
    refused(rewrite(graph, tensors=change), message)


def operations(document: dict[str, Any]) -> list[Any]:
    return document["program"]["operations"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (setting("program", to=None), "its graph cannot be read"),
        (setting("program", "inputs", to=[]), "no input"),
        (setting("program", "inputs", to=["x", "x"]), "an input or tensor is there twice"),
        (setting("program", "inputs", to=[3]), "3 is not a name"),
        (setting("program", "operations", to=[["a", "aten.relu.default"]]), "cannot be read"),
        (setting("program", "operations", to=3), "cannot be read"),
        (setting("program", "output", to={"ref": "nothing"}), "the output is not computed"),
        (setting("program", "output", to={"eval": "1"}), "value {'eval': '1'}"),
        (setting("program", "output", to={"dtype": "load"}), "value {'dtype': 'load'}"),
        (setting("program", "output", to={"memory_format": "float32"}), "value {'memory_format'"),
        (setting("program", "output", to={"a": 1, "b": 2}), "cannot be read"),
        (lambda d: operations(d).reverse(), "reads what is not there yet"),
        (lambda d: operations(d).append(operations(d)[0]), "is there twice"),
        (lambda d: operations(d)[0].__setitem__(3, []), "keyword arguments of"),
        (setting("buffers", to={"a": 1}), "its buffers are not a list of names"),
        (setting("buffers", to=[["a"]]), "its buffers are not a list of names"),
    ],
)
def test_malformed_graphs_are_refused(
    graph: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    refused(rewrite(graph, document=change), message)


@pytest.mark.parametrize(
    "target",
    [
        "aten.from_file.default",
        "aten.set_.source_Tensor",
        "aten.index_put_.default",
        "aten.copy_.default",
        "aten.add_.Tensor",
        "aten.add.out",
        "aten.record_stream.default",
        "aten.item.default",
        "aten._print.default",
        "aten.nothing.default",
        "aten.__class__.mro",
        "prims.add.default",
        "quantized.add.default",
        "builtins.eval",
        "eval",
        "os.system",
        "torch.load",
        "",
    ],
)
def test_operators_with_effects_are_refused(graph: Path, target: str) -> None:
    path = rewrite(graph, document=lambda d: operations(d)[0].__setitem__(1, target))
    refused(path, f"its graph cannot be read (operator '{target}')")


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (Operation("y", torch.ops.aten.set_.source_Tensor, (Reference("x"),)), "does not hold"),
        (Operation("y", eval, ("1",)), "computes a size by"),
        (Operation("y", torch.ops.aten.relu.default, (object(),)), "passes <object object"),
    ],
)
def test_what_cannot_be_read_is_not_written(operation: Operation, message: str) -> None:
    program = GraphProgram(("x",), {}, (operation,), Reference("y"))
    with pytest.raises(FileFormatError, match=message):
        program_to_json(program)


def test_every_kind_of_value_survives() -> None:
    values = [
        None, True, 3, 0.1, float("inf"), "a", [1, [2]], (1, (2,)), {"k": [Reference("x")]},
        torch.float16, torch.channels_last, torch.strided, torch.device("cpu"),
    ]  # fmt: skip
    operation = Operation("y", torch.ops.aten.relu.default, tuple(values), {"more": values})
    program = GraphProgram(("x",), {"w": "a.b"}, (operation,), (Reference("y"), [1]), ("x",))
    text = json.dumps(program_to_json(program), allow_nan=False)
    read = program_from_json(json.loads(text))
    assert read.operations == program.operations
    assert (read.inputs, read.tensors, read.output, read.keywords) == (
        program.inputs, program.tensors, program.output, program.keywords,
    )  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04not safetensors",
        struct.pack("<Q", 2**40) + b"{}",
        struct.pack("<Q", 10**7) + b"{}",
        struct.pack("<Q", 2) + b"{]",
        struct.pack("<Q", 60) + b'{"w":{"dtype":"F32","shape":[1000000],"data_offsets":[0,9]}}',
    ],
)
def test_other_bytes_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    refused(path, str(path))


def test_a_file_cut_short_is_refused(native: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(native.read_bytes()[:-100])
    refused(path, "is truncated")


def test_bad_json_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "model.safetensors"
    for text in ("{", '{"a": NaN}', "[]", '"a"', "[" * 100_000):
        save_file({"x": torch.ones(1)}, path, metadata={"ramda_format": "1", "ramda": text})
        refused(path, "has a damaged header")
    save_file({"x": torch.ones(1)}, path, metadata={"ramda_format": "2", "ramda": "{}"})
    refused(path, "has format 2; this version reads 1")


def test_a_dense_model_is_built_only_of_a_size_that_fits_its_file(graph: Path) -> None:
    assert build_dense(graph) is None
    known = {"kind": "timm", "name": "resnet10t", "arguments": {"num_classes": 7}}
    dense = build_dense(rewrite(graph, document=setting("source", to=known)))
    assert dense is not None
    assert dense.fc.out_features == 7
    assert not dense.training
    factory = {**known, "kind": "file"}
    assert build_dense(rewrite(graph, document=setting("source", to=factory))) is None
    huge = {**known, "arguments": {"num_classes": 10**9}}
    with pytest.raises(FileFormatError, match=r"its dense model has 51.,...,...,... elements"):
        build_dense(rewrite(graph, document=setting("source", to=huge)))


def test_a_constructor_that_says_much_is_quoted_by_its_first_line(native: Path) -> None:
    # Torch's own error goes on for twenty lines of frames.
    path = rewrite(native, document=setting("source", "arguments", to={"num_classes": 2**70}))
    error = refused(path, "cannot be built with the arguments in", ModelError)
    assert "\n" not in str(error)
