"""Several processes on one CPU that talk by gloo.

They are forked from a server that has imported what they need and has not computed anything: after
a backward pass autograd's threads do not survive a fork.
"""

import multiprocessing
import os
import pickle
import socket
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

_PRELOADED = [
    "ramda_cli.pipeline", "torch.distributed.fsdp", "torch.distributed.tensor", "accelerate",
]  # fmt: skip


def together(count: int, work: Callable[..., Any], *arguments: Any, folder: Path) -> list[Any]:
    """Return what each of so many processes returned for the same arguments, by rank."""
    processes = started(count, work, *arguments, folder=folder)
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * count
    return results(count, folder)


def started(
    count: int, work: Callable[..., Any], *arguments: Any, folder: Path
) -> Sequence[BaseProcess]:
    """Start the processes, with the environment that `torchrun` gives."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [
        context.Process(target=_work, args=(rank, count, port, folder, work, arguments))
        for rank in range(count)
    ]
    for process in processes:
        process.start()
    return processes


def results(count: int, folder: Path) -> list[Any]:
    """Return what the processes returned."""
    return [pickle.loads((folder / f"result-{rank}").read_bytes()) for rank in range(count)]


def _work(
    rank: int, count: int, port: int, folder: Path, work: Callable[..., Any], arguments: Any
) -> None:
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    try:
        result = work(*arguments)
        (folder / f"result-{rank}").write_bytes(pickle.dumps(result))
        if dist.is_initialized():
            dist.destroy_process_group()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
