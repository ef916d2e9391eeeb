import errno
import hashlib
import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from ramda_cli.errors import OutputError
from ramda_cli.pipeline.workspace import INCOMPLETE, Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "a" / "out")


def test_the_mark_stands_from_the_start_to_the_end(workspace: Workspace) -> None:
    workspace.check_free(overwrite=False)
    assert not workspace.directory.parent.exists()
    workspace.start()
    assert "nothing in this directory is a result" in workspace.path(INCOMPLETE).read_text()
    workspace.finish()
    assert list(workspace.directory.iterdir()) == []


def test_an_empty_directory_is_free(tmp_path: Path) -> None:
    Workspace(tmp_path).check_free(overwrite=False)
    Workspace(tmp_path).check_free(overwrite=True)


@pytest.mark.parametrize("mark", [INCOMPLETE, "report.json"])
def test_an_earlier_run_is_taken_away_and_nothing_else(workspace: Workspace, mark: str) -> None:
    workspace.start()
    workspace.finish()
    workspace.path("checkpoints").mkdir()
    earlier = ["model.safetensors", "model.onnx", "model.onnx.data", "metrics.jsonl", mark]
    earlier += ["README.md", "report.html", "config.yaml"]
    for name in [*earlier, "notes.txt", "checkpoints/last.safetensors"]:
        workspace.path(name).write_text("earlier")
    with pytest.raises(OutputError, match=r"is not empty$"):
        workspace.check_free(overwrite=False)
    workspace.check_free(overwrite=True)
    workspace.start()
    left = {path.name for path in workspace.directory.iterdir()}
    assert left == {INCOMPLETE, "notes.txt"}


def test_a_directory_without_a_run_is_never_overwritten(workspace: Workspace) -> None:
    workspace.directory.mkdir(parents=True)
    workspace.path("config.yaml").write_text("mine")
    with pytest.raises(OutputError, match=r"holds files, and no earlier run$"):
        workspace.check_free(overwrite=True)


def test_text_is_written_whole_or_not_at_all(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.start()
    workspace.write_text("report.json", "first")

    def full(path: Path, *_: object, **__: object) -> None:
        path.write_bytes(b"sec")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    path = workspace.path("report.json")
    message = f"cannot write {path}: No space left on device"
    with pytest.raises(OutputError, match=f"^{re.escape(message)}$") as caught:
        workspace.write_text("report.json", "second")
    assert caught.value.hint == "free some space, or choose another directory with -o"
    assert path.read_text() == "first"
    assert not path.with_name("report.json.partial").exists()


def test_lines_are_appended(workspace: Workspace) -> None:
    workspace.start()
    workspace.append_line("metrics.jsonl", {"a": 1})
    workspace.append_line("metrics.jsonl", {"a": None})
    lines = workspace.path("metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"a": 1}, {"a": None}]


def test_weights_are_a_plain_state_dict_under_every_name(workspace: Workspace) -> None:
    workspace.start()
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Conv2d(2, 2, 3))
    model[1].weight = model[0].weight
    model.to(memory_format=torch.channels_last)
    path = workspace.save_weights(model.state_dict(), "last")
    assert path == workspace.path("checkpoints/last.safetensors")
    stored = load_file(path)
    assert stored.keys() == model.state_dict().keys()
    assert all(torch.equal(stored[name], t) for name, t in model.state_dict().items())


def test_files_are_listed_with_sizes_and_hashes(workspace: Workspace) -> None:
    workspace.start()
    workspace.write_text("config.yaml", "a: 1\n")
    (entry,) = workspace.files()
    assert (entry.name, entry.bytes) == ("config.yaml", 5)
    assert entry.sha256 == hashlib.sha256(b"a: 1\n").hexdigest()
