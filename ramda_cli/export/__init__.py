"""Files: the self-describing safetensors, and ONNX."""

from ramda_cli.export.file_format import save
from ramda_cli.export.loading import build_dense, load, read_tensors
from ramda_cli.export.onnx import export_onnx
from ramda_cli.export.onnx_runtime import OnnxModel, open_onnx
from ramda_cli.export.probe import Probe, make_probe
from ramda_cli.export.probe_json import read_probe
from ramda_cli.export.tensor_file import write_tensors

__all__ = [
    "OnnxModel",
    "Probe",
    "build_dense",
    "export_onnx",
    "load",
    "make_probe",
    "open_onnx",
    "read_probe",
    "read_tensors",
    "save",
    "write_tensors",
]
