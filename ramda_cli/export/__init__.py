"""Files: the self-describing safetensors, and ONNX."""

from ramda_cli.export.file_format import save
from ramda_cli.export.loading import load, read_tensors
from ramda_cli.export.onnx import export_onnx, open_onnx
from ramda_cli.export.tensor_file import write_tensors

__all__ = ["export_onnx", "load", "open_onnx", "read_tensors", "save", "write_tensors"]
