"""How discovery grows with the model: seconds over graph nodes, beside those of the export.

    python benchmarks/discovery_scaling.py

ViTs of 6, 12, 24 and 48 blocks and Llamas of 6, 12 and 24 layers with random weights. Discovery is
the fastest of three runs on one exported program, the export of one. Prints a table.
"""

import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from ramda_cli.structure.discover import discover_channels
from ramda_cli.structure.export import export_graph

RUNS = 3


def vit(depth: int) -> tuple[nn.Module, Any]:
    """Return a ViT-S of this depth and an image batch."""
    return VisionTransformer(embed_dim=384, depth=depth, num_heads=6), torch.zeros(2, 3, 224, 224)


def llama(depth: int) -> tuple[nn.Module, Any]:
    """Return a Llama of width 512 and this depth, with tokens for it."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=8000, hidden_size=512, intermediate_size=1376, num_hidden_layers=depth,
        num_attention_heads=8, num_key_value_heads=4,
    )  # fmt: skip
    tokens = torch.ones(2, 16, dtype=torch.long)
    return LlamaForCausalLM(config), {"input_ids": tokens, "use_cache": False}


def rows() -> Iterator[tuple[str, int, float, float]]:
    """Yield name, graph nodes, seconds of export and of discovery."""
    builders: list[tuple[str, Callable[[int], tuple[nn.Module, Any]], tuple[int, ...]]] = [
        ("ViT-S", vit, (6, 12, 24, 48)),
        ("Llama", llama, (6, 12, 24)),
    ]
    for name, build, depths in builders:
        for depth in depths:
            model, inputs = build(depth)
            started = time.perf_counter()
            program = export_graph(model.eval(), inputs)
            exported = time.perf_counter() - started
            fastest = min(_seconds(lambda p=program: discover_channels(p)) for _ in range(RUNS))
            yield f"{name}, depth {depth}", len(program.graph.nodes), exported, fastest


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def main() -> None:
    """Print the table."""
    warnings.filterwarnings("ignore")
    print("| model | graph nodes | export (s) | discovery (s) | ratio | ms per node |")
    print("|---|---|---|---|---|---|")
    for name, nodes, export_s, discover_s in rows():
        print(
            f"| {name} | {nodes} | {export_s:.1f} | {discover_s:.2f} | {discover_s / export_s:.3f}"
            f" | {1000 * discover_s / nodes:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
