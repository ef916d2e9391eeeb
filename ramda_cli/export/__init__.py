"""Files: the self-describing safetensors, and ONNX."""

from ramda_cli.export.file_format import load, read_tensors, save
from ramda_cli.export.onnx import export_onnx, open_onnx

__all__ = ["export_onnx", "load", "open_onnx", "read_tensors", "save"]
