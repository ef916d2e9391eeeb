"""Count what processes that share a model hold and exchange for a step, beside what is predicted.

    python benchmarks/scale.py --processes 2

trains a small Llama for some steps in processes that talk by gloo, its parameters sharded as by
`training.shard`, and counts the bytes of the optimizer's own all-reduces and of its state. The
arithmetic is in docs/scale.md. Prints one JSON document.
"""

import argparse
import json
import multiprocessing
import os
import socket
import time
from multiprocessing.queues import Queue
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from ramda_cli.config.schema import TargetConfig
from ramda_cli.optimizers import RAMDA, penalties
from ramda_cli.optimizers.shards import local
from ramda_cli.regularizers import GroupLasso
from ramda_cli.structure import discover
from ramda_cli.structure.cost import CostModel
from ramda_cli.training import plan_budget
from ramda_cli.training.processes import join
from ramda_cli.training.rules import BudgetRule
from ramda_cli.training.sharding import shard_

_CPU = torch.device("cpu")
_STEPS = 20
_FREEZE = 15
_REDUCTIONS = 3
"""Of a step, beside root finding: max |w|, Σ w², Σ w² d; until the freeze Σ g x too."""


def main() -> None:
    """Start the processes and print what they counted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    found: Queue[dict[str, Any]] = context.Queue()
    workers = [
        context.Process(target=_work, args=(rank, options.processes, port, found))
        for rank in range(options.processes)
    ]
    for worker in workers:
        worker.start()
    counts = sorted((found.get() for _ in workers), key=lambda each: each["rank"])
    for worker in workers:
        worker.join()
    print(json.dumps(counts, indent=1))


def _model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=512, hidden_size=256, intermediate_size=688, num_hidden_layers=4,
        num_attention_heads=8, num_key_value_heads=8, max_position_embeddings=64, use_cache=False,
    )  # fmt: skip
    return LlamaForCausalLM(config).train()


def _work(rank: int, count: int, port: int, found: "Queue[dict[str, Any]]") -> None:
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    processes = join()
    structure = discover(_model().eval(), {"input_ids": torch.zeros(2, 16, dtype=torch.long)})
    cost = CostModel(structure)
    budget = plan_budget(cost, TargetConfig(macs=0.7), floor=0.1)
    rule = BudgetRule(budget, warm_up_steps=2, ramp_steps=10, freeze_step=_FREEZE)
    whole = _model()
    parameters = sum(parameter.numel() for parameter in whole.parameters())
    model = shard_(whole, processes, _CPU)
    of = penalties(structure, GroupLasso(0.0))
    optimizer = RAMDA(model.named_parameters(), of, lr=1e-4, thresholds=rule)
    reduced, calls, seconds = [0] * _STEPS, [0] * _STEPS, [0.0] * _STEPS
    plain, at = dist.all_reduce, -1

    def counted(tensor: Tensor, *arguments: Any, **settings: Any) -> Any:
        reduced[at] += tensor.numel() * tensor.element_size()
        calls[at] += 1
        return plain(tensor, *arguments, **settings)

    draws, backward = torch.Generator().manual_seed(rank), 0.0
    for at in range(_STEPS):
        ids = torch.randint(512, (4, 32), generator=draws)
        optimizer.zero_grad()
        started = time.monotonic()
        model(input_ids=ids, labels=ids).loss.backward()
        backward += time.monotonic() - started
        dist.all_reduce = counted
        started = time.monotonic()
        optimizer.step()
        seconds[at] = time.monotonic() - started
        dist.all_reduce = plain
    state = sum(
        local(value).numel() * value.element_size()
        for parameter in optimizer.state.values()
        for key, value in parameter.items()
        if not key.startswith("solution_")
    )
    channels = sum(group.channels for group in structure.groups)
    rounds = [(each - _REDUCTIONS - (step < _FREEZE)) / 2 for step, each in enumerate(calls)]
    found.put(
        {
            "rank": rank, "processes": count, "parameters": parameters, "channels": channels,
            "state_bytes": state, "state_bytes_predicted": 12 * parameters / count,
            "reduced_bytes": reduced[-1], "reductions": calls[-1],
            "reduced_bytes_predicted": 4 * channels * calls[-1],
            "rounds_of_root_finding": {"first": rounds[0], "last": rounds[-1], "most": max(rounds)},
            "step_ms": 1e3 * sorted(seconds)[_STEPS // 2],
            "forward_and_backward_ms": 1e3 * backward / _STEPS,
        }
    )  # fmt: skip
    dist.barrier()


if __name__ == "__main__":
    main()
