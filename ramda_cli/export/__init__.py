"""Files: the self-describing safetensors, ONNX, and what other libraries load."""

from ramda_cli.export.calling import in_order
from ramda_cli.export.file_format import save
from ramda_cli.export.loading import build_dense, load, read_tensors
from ramda_cli.export.onnx import export_onnx, require_onnx
from ramda_cli.export.onnx_runtime import OnnxModel
from ramda_cli.export.probe import Probe, make_probe
from ramda_cli.export.probe_json import read_probe
from ramda_cli.export.state_file import State, read_state, write_state
from ramda_cli.export.tensor_file import replace_durably, write_tensors
from ramda_cli.export.torch_export import TorchExported, export_torch

__all__ = [
    "OnnxModel",
    "Probe",
    "State",
    "TorchExported",
    "build_dense",
    "export_onnx",
    "export_torch",
    "in_order",
    "load",
    "make_probe",
    "read_probe",
    "read_state",
    "read_tensors",
    "replace_durably",
    "require_onnx",
    "save",
    "write_state",
    "write_tensors",
]
