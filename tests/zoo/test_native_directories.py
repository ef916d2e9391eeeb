"""A model of transformers whose layers lost the same widths loads by transformers alone."""

import copy
import functools
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ramda_cli.errors import ModelError
from ramda_cli.export import load, save
from ramda_cli.export.dense import uniform_module
from ramda_cli.export.directories import open_directory, write_directory
from ramda_cli.models.loaded import ModelSource
from ramda_cli.structure import Structure, identify, zero_
from ramda_cli.structure.discover import discover_channels
from ramda_cli.structure.export import export_graph
from ramda_cli.surgery import remove
from tests.structure.exactness import randomize_
from tests.zoo.check import EXACT, difference, exact_outputs
from tests.zoo.huggingface import TYPES

GROUPS = {
    "ffn": re.compile(
        r"(intermediate\.dense|intermediate_dense|ffn|lin1|fc1|Wi|wi_0|c_fc|dense_h_to_4h"
        r"|gate_proj|gate_up_proj|experts|pwconv1)$"
    ),
    "heads": re.compile(
        r"\.(q|k_proj|q_proj|qkv_proj|query|query_proj|q_lin|Wqkv|c_attn|query_key_value"
        r"|attention)$"
    ),
    "convolutions": re.compile(r"\.convolution$"),
}
"""Names of the groups of each kind; a type of which no group is meant has none of that kind."""

EXPRESSIBLE: dict[str, frozenset[str]] = {
    "ffn": frozenset(
        {
            "albert", "bart", "beit", "bert", "clip_text", "clip_vision", "deberta-v2", "deit",
            "dinov2", "distilbert", "electra", "falcon", "gemma2", "gemma3_text", "gpt2",
            "gpt_neox", "hubert", "llama", "marian", "mbart", "mistral", "mixtral", "mobilevit",
            "modernbert", "mpnet", "opt", "pegasus", "phi3", "qwen2", "qwen3", "roberta",
            "siglip_vision", "swin", "t5", "vit", "wav2vec2", "whisper",
        }
    ),
    "heads": frozenset(
        {
            "beit", "deit", "dinov2", "gemma2", "gemma3_text", "llama", "mistral", "mixtral",
            "phi3", "qwen2", "qwen3", "t5", "vit",
        }
    ),
    "convolutions": frozenset(),
}  # fmt: skip
"""The types of which half of the widths of a kind go into the configuration.

A ratio of integers says only multiples (dinov2), one ratio only the same share in every stage
(swin, mobilevit), and a list of ratios, one for each stage, is not tried (segformer).
"""

ABSENT: dict[str, frozenset[str]] = {
    "ffn": frozenset({"regnet", "resnet"}),
    "heads": frozenset({"bloom", "convnext", "regnet", "resnet"}),
    "convolutions": frozenset(TYPES) - {"mobilevit", "regnet", "resnet"},
}
"""The types that have nothing of a kind to remove; of bloom's heads, each has its own slope."""

QUICK = (("ffn", "dinov2"), ("ffn", "gpt2"), ("heads", "bert"), ("heads", "phi3"), ("heads", "vit"))
"""The ways to say a width that are out of the ordinary, and one that cannot be said."""

PRESENT = [(kind, name) for name in TYPES for kind in GROUPS if name not in ABSENT[kind]]


@dataclass(frozen=True)
class Discovered:
    """A dense model with random weights, its structure and inputs."""

    model: nn.Module
    structure: Structure
    inputs: dict[str, Any]


@dataclass(frozen=True)
class Pruned:
    """A model with channels at zero, and the one without them as its file gives it back."""

    zeroed: nn.Module
    loaded: nn.Module
    source: ModelSource


@functools.lru_cache(maxsize=2)
def discovered(name: str) -> Discovered:
    torch.manual_seed(0)
    kind = TYPES[name]
    model, inputs = kind.build(), kind.inputs(1)
    # What is not trained is sinusoidal positions, which some classes compute again on loading.
    fixed = {n: p.detach().clone() for n, p in model.named_parameters() if not p.requires_grad}
    randomize_(model, buffers="running_").float().load_state_dict(fixed, strict=False)
    return Discovered(model, discover_channels(export_graph(model, inputs)), inputs)


def half(structure: Structure, *kinds: str) -> dict[str, list[int]]:
    """Return half of the channels of every group of these kinds, others in every layer."""
    generator = np.random.default_rng(0)
    return {
        group.name: sorted(generator.permutation(group.channels)[: group.channels // 2].tolist())
        for group in structure.groups
        if any(GROUPS[kind].search(group.name) for kind in kinds)
    }


def pruned(dense: Discovered, directory: Path, *kinds: str) -> Pruned:
    zeroed = copy.deepcopy(dense.model)
    zero_(zeroed, dense.structure, half(dense.structure, *kinds))
    support = identify(zeroed, dense.structure)
    smaller, plan = remove(zeroed, dense.structure, support)
    assert support.held == {}
    assert plan.source is not None
    assert save(smaller, plan, directory / "model.safetensors") == "native"
    return Pruned(zeroed, load(directory / "model.safetensors"), plan.source)


def opened(case: Pruned, directory: Path) -> nn.Module:
    """Write a directory and load it by transformers alone."""
    module, source = uniform_module(case.source, case.loaded.state_dict())
    write_directory(module, source, directory, preprocessing={}, labels=())
    return open_directory(source, directory)


def assert_same_constants(model: nn.Module, dense: nn.Module) -> None:
    """Compare the buffers that no state holds: rotary frequencies, positions and the like."""
    state = dense.state_dict()
    expected = {name: buffer for name, buffer in dense.named_buffers() if name not in state}
    actual = {name: buffer for name, buffer in model.named_buffers() if name not in state}
    assert actual.keys() == expected.keys()
    for name, buffer in expected.items():
        assert actual[name].dtype == buffer.dtype
        assert torch.equal(actual[name], buffer), name


def check_directory(kind: str, name: str, directory: Path) -> None:
    dense = discovered(name)
    case = pruned(dense, directory, kind)
    expected = exact_outputs(case.zeroed, dense.inputs)
    assert difference(expected, exact_outputs(case.loaded, dense.inputs)) <= EXACT
    assert_same_constants(case.loaded, dense.model)
    if name not in EXPRESSIBLE[kind]:
        with pytest.raises(ModelError, match=r"only ramda_cli\.load loads") as caught:
            uniform_module(case.source, case.loaded.state_dict())
        assert "--layout dense" in str(caught.value.hint)
        return
    plain = opened(case, directory / "native")
    assert type(plain) is type(dense.model)
    assert sum(p.numel() for p in plain.parameters()) < sum(
        p.numel() for p in dense.model.parameters()
    )
    assert difference(expected, exact_outputs(plain, dense.inputs)) <= EXACT
    assert_same_constants(plain, dense.model)


@pytest.mark.parametrize(("kind", "name"), QUICK)
def test_a_directory(kind: str, name: str, tmp_path: Path) -> None:
    check_directory(kind, name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), [one for one in PRESENT if one not in QUICK])
def test_every_other_directory(kind: str, name: str, tmp_path: Path) -> None:
    check_directory(kind, name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", TYPES)
def test_what_a_type_has_to_remove(name: str) -> None:
    structure = discovered(name).structure
    assert {kind for kind in GROUPS if half(structure, kind)} == {
        kind for kind in GROUPS if name not in ABSENT[kind]
    }


ELSEWHERE = """
import sys
sys.modules["ramda_cli"] = None
try:
    import ramda_cli.export
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("ramda_cli can be imported")
from pathlib import Path
import torch, transformers
from safetensors.torch import load_file, save_file
torch.set_num_threads(1)
for job in sys.argv[1:]:
    path, kind = job.split(":")
    model = getattr(transformers, kind).from_pretrained(Path(path, "native")).eval()
    inputs = load_file(Path(path, "inputs.safetensors"))
    with torch.no_grad():
        made = {"logits": model(**inputs).logits}
        if model.can_generate():
            inputs.pop("decoder_input_ids", None)
            made["tokens"] = model.generate(**inputs, max_new_tokens=8, do_sample=False)
    save_file(made, Path(path, "made.safetensors"))
"""

AUTOMATIC = {
    "bert": "AutoModelForSequenceClassification",
    "llama": "AutoModelForCausalLM",
    "t5": "AutoModelForSeq2SeqLM",
}


def run_elsewhere(jobs: list[str], directory: Path) -> None:
    """Run `path:class` jobs in one process that cannot import this package."""
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, *jobs],
        cwd=directory, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_process_without_this_package_loads_directories(tmp_path: Path) -> None:
    cases, inputs = {}, {}
    for name in AUTOMATIC:
        dense, directory = discovered(name), tmp_path / name
        directory.mkdir()
        kinds = [kind for kind in GROUPS if name in EXPRESSIBLE[kind]]
        cases[name] = pruned(dense, directory, *kinds)
        opened(cases[name], directory / "native")
        inputs[name] = {key: x for key, x in dense.inputs.items() if isinstance(x, Tensor)}
        save_file(inputs[name], directory / "inputs.safetensors")
    run_elsewhere([f"{name}:{kind}" for name, kind in AUTOMATIC.items()], tmp_path)
    for name, case in cases.items():
        check_made(case.loaded, inputs[name], tmp_path / name)
    assert (tmp_path / "llama" / "native" / "generation_config.json").exists()


@torch.no_grad()
def check_made(loaded: Any, inputs: dict[str, Tensor], directory: Path) -> None:
    """Compare logits and tokens, bit by bit, with what the file's own model makes."""
    made = load_file(directory / "made.safetensors")
    assert torch.equal(made["logits"], loaded(**inputs).logits)
    assert loaded.can_generate() == ("tokens" in made)
    if loaded.can_generate():
        prompt = {key: x for key, x in inputs.items() if key != "decoder_input_ids"}
        tokens = loaded.generate(**prompt, max_new_tokens=8, do_sample=False)
        assert torch.equal(made["tokens"], tokens)
