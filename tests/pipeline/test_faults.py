"""What ends a run, made to happen: each says so, and loses no more than a checkpoint's time."""

import multiprocessing
import os
import resource
import shutil
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ramda_cli.config.schema import RunConfig
from ramda_cli.data.loader import LoaderBatches
from ramda_cli.errors import ConfigError, DataError, OutputError
from ramda_cli.pipeline.fitting import Fit
from ramda_cli.pipeline.prune import prune
from ramda_cli.pipeline.workspace import STATE, Workspace
from tests.data.helpers import build
from tests.pipeline.recording import Recorder
from tests.pipeline.test_resuming import config_of, result_of, stopped


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let no file grow larger, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_checkpoint_before_whole(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    prune(config, Recorder())
    expected = result_of(config)
    config.output.directory.rename(tmp_path / "undisturbed")
    workspace = stopped(config, 7)
    state = workspace.checkpoint(STATE).read_bytes()
    message = r"^cannot write .*File too large"
    with files_of_at_most(4096), pytest.raises(OutputError, match=message):
        prune(config, Recorder(), resume=True)
    assert workspace.checkpoint(STATE).read_bytes() == state
    assert not list(workspace.directory.rglob("*.partial"))
    prune(config, Recorder(), resume=True)
    assert result_of(config) == expected


def test_an_output_directory_that_vanishes_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, follow = config_of(tmp_path), Fit._after_step

    def vanish(fit: Fit) -> None:
        follow(fit)
        if fit._training.step == 7:
            shutil.rmtree(config.output.directory)

    monkeypatch.setattr(Fit, "_after_step", vanish)
    with pytest.raises(OutputError, match=r"^cannot write .*: No such file or directory$"):
        prune(config, Recorder())


def photos(folder: Path) -> Path:
    for split in ("train", "val"):
        for label in ("a", "b"):
            place = folder / split / label
            place.mkdir(parents=True)
            for number in range(8):
                color = (40 * number, 100, 200 if label == "a" else 0)
                Image.new("RGB", (100, 90), color).save(place / f"{number}.png")
    return folder


def load_while_the_loader_dies(folder: Path) -> DataError | None:
    """Return the error of a loader whose process is killed while a batch is waited for."""
    train = build(folder, batch_size=2, workers=1).train
    assert isinstance(train, LoaderBatches)
    batches = iter(train)
    next(batches)
    loading: Any = train._loader._iterator
    worker = loading._workers[0].pid
    os.kill(worker, signal.SIGSTOP)
    threading.Timer(1.0, os.kill, (worker, signal.SIGKILL)).start()
    try:
        list(batches)
    except DataError as error:
        return error
    return None


def test_a_loader_process_that_dies_is_an_error_of_the_data(tmp_path: Path) -> None:
    # In a process of its own: torch's handler of SIGCHLD raises wherever the main thread is, and
    # not once only.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        error = pool.submit(load_while_the_loader_dies, photos(tmp_path)).result()
    assert error is not None
    assert str(error).startswith("a loader process died: DataLoader worker")
    assert "fewer --workers" in (error.hint or "")


@pytest.mark.parametrize(
    "name",
    [
        "checkpoints",
        pytest.param("metrics.jsonl", marks=pytest.mark.slow),
        pytest.param("config.yaml", marks=pytest.mark.slow),
    ],
)
def test_links_in_an_output_directory_are_not_followed(tmp_path: Path, name: str) -> None:
    config, elsewhere = config_of(tmp_path), tmp_path / "elsewhere"
    workspace = stopped(config, 2)
    workspace.path(name).rename(elsewhere)
    workspace.path(name).symlink_to(elsewhere)
    before = elsewhere.stat().st_mtime_ns
    with pytest.raises(OutputError, match=r"is a link, and no run makes one$"):
        prune(config, Recorder(), resume=True)
    again = config.model_copy(
        update={"output": config.output.model_copy(update={"overwrite": True})}
    )
    prune(again, Recorder())
    assert not workspace.path(name).is_symlink()
    assert elsewhere.stat().st_mtime_ns == before


def test_a_link_in_place_of_a_file_that_is_being_written_is_replaced(tmp_path: Path) -> None:
    workspace, target = Workspace(tmp_path / "out"), tmp_path / "mine"
    workspace.start()
    target.write_text("mine")
    for name in ("report.json", "report.json.partial"):
        workspace.path(name).symlink_to(target)
    workspace.write_text("report.json", "{}")
    assert target.read_text() == "mine"
    assert not workspace.path("report.json").is_symlink()


def reporting(tmp_path: Path, *names: str) -> RunConfig:
    return config_of(tmp_path, output={"report_to": names})


def test_metrics_go_to_a_tracker_at_the_run_s_own_steps(tmp_path: Path) -> None:
    config = reporting(tmp_path, "tensorboard")
    stopped(config, 12)
    prune(config, Recorder(), resume=True)
    written: dict[str, list[int]] = {}
    for folder in (config.output.directory / "tensorboard").iterdir():
        if folder.name.startswith("events"):
            events = EventAccumulator(str(folder)).Reload()
            for tag in events.Tags()["scalars"]:
                written.setdefault(tag, []).extend(event.step for event in events.Scalars(tag))
    assert sorted(set(written["train/loss"])) == [5, 10, 15]
    assert sorted(set(written["epoch/metric"])) == [0, 5, 10, 15]


def test_a_tracker_that_is_not_there_is_refused_first(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^there is no tracker 'tensorbord'$") as caught:
        prune(reporting(tmp_path, "tensorbord"), Recorder())
    assert "tensorboard, trackio, wandb" in (caught.value.hint or "")
    with pytest.raises(ConfigError, match=r"^the tracker clearml is not installed$"):
        prune(reporting(tmp_path, "clearml"), Recorder())
    assert not (tmp_path / "out").exists()


def test_a_place_where_nothing_can_be_written_is_told(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    nowhere = config.output.model_copy(update={"directory": Path("/proc/ramda")})
    with pytest.raises(OutputError, match=r"^cannot write /proc/ramda: "):
        prune(config.model_copy(update={"output": nowhere}), Recorder())


def test_a_token_is_in_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "hf_ThisIsNobodysToken"
    for name in ("HF_TOKEN", "WANDB_API_KEY"):
        monkeypatch.setenv(name, secret)
    config = config_of(tmp_path, output={"report_to": ["tensorboard"]})
    recorder = Recorder()
    document = prune(config, recorder)
    files = [path for path in config.output.directory.rglob("*") if path.is_file()]
    assert len(files) > 8
    assert not [path for path in files if secret.encode() in path.read_bytes()]
    assert secret not in f"{document} {recorder.notes} {recorder.stages}"
