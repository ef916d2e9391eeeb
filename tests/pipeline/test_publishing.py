"""Pushing to the hub, against one that is not there: what is asked, uploaded and said."""

import fnmatch
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from huggingface_hub.errors import LocalTokenNotFoundError

from ramda_cli.config.loading import load_config
from ramda_cli.errors import ConfigError, OutputError
from ramda_cli.observer import SilentObserver
from ramda_cli.pipeline import publishing
from ramda_cli.pipeline.prune import prune
from ramda_cli.pipeline.publishing import check_account, publish

TOKEN = "hf_" + "s" * 34
ACCOUNT: dict[str, Any] = {
    "name": "me",
    "orgs": [{"name": "org"}],
    "auth": {"accessToken": {"role": "write"}},
}


class FakeHub:
    """Stands in for `HfApi`; a failure by a method's name is raised there."""

    def __init__(self) -> None:
        self.account: Mapping[str, Any] = ACCOUNT
        self.failures: dict[str, Exception] = {}
        self.calls: list[str] = []
        self.created: dict[str, Any] = {}
        self.uploaded: list[str] = []

    def whoami(self) -> Mapping[str, Any]:
        self._enter("whoami")
        return self.account

    def create_repo(self, repository: str, **options: Any) -> str:
        self._enter("create_repo")
        self.created = {"repository": repository, **options}
        return f"https://huggingface.co/{repository}"

    def upload_folder(
        self, *, repo_id: str, folder_path: Path, allow_patterns: list[str], commit_message: str
    ) -> None:
        self._enter("upload_folder")
        names = [path.relative_to(folder_path).as_posix() for path in folder_path.rglob("*")]
        self.uploaded = sorted(
            name for name in names if any(fnmatch.fnmatch(name, p) for p in allow_patterns)
        )

    def _enter(self, method: str) -> None:
        self.calls.append(method)
        if method in self.failures:
            raise self.failures[method]


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    fake = FakeHub()
    monkeypatch.setattr(publishing, "HfApi", lambda: fake)
    monkeypatch.setattr(publishing, "get_token", lambda: TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return fake


def run(out: Path, *sets: str) -> dict[str, object]:
    config = load_config(
        None,
        {
            "model.name": "digits-resnet",
            "data.name": "digits",
            "data.limit": 128,
            "data.batch_size": 64,
            "training.epochs": 1,
            "training.device": "cpu",
            "target": "macs=0.5",
            "output.directory": out,
            "output.onnx": False,
            "output.bench": False,
            "output.push_to_hub": "org/half",
        },
        sets,
    )
    return prune(config, SilentObserver())


def test_a_run_ends_on_the_hub_and_its_checkpoints_do_not(hub: FakeHub, tmp_path: Path) -> None:
    report: Any = run(tmp_path / "out")
    assert hub.calls == ["whoami", "create_repo", "upload_folder"]
    assert hub.created == {"repository": "org/half", "private": True, "exist_ok": True}
    assert hub.uploaded == [
        "README.md", "config.yaml", "model.safetensors", "report.html", "report.json",
    ]  # fmt: skip
    assert report["reproducibility"]["config"]["output"]["push_to_hub"] == "org/half"
    written = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not any(TOKEN.encode() in text for text in written)


def test_a_failed_upload_leaves_a_whole_result(hub: FakeHub, tmp_path: Path) -> None:
    hub.failures["upload_folder"] = ValueError(f"Invalid metadata; token {TOKEN}\nmore")
    out = tmp_path / "my out"
    with pytest.raises(OutputError) as caught:
        run(out)
    assert caught.value.exit_code == 1
    assert str(caught.value) == (
        f"the result is whole in {out}, but not on the hub: Invalid metadata; token ***"
    )
    assert caught.value.hint == (
        f"upload it with `hf upload org/half '{out}' . --private --exclude 'checkpoints/*'`"
    )
    assert (out / "model.safetensors").is_file()
    assert not (out / "INCOMPLETE").exists()


def test_public_is_asked_for(hub: FakeHub, tmp_path: Path) -> None:
    assert publish(tmp_path, "org/half", public=True) == "https://huggingface.co/org/half"
    assert hub.created["private"] is False
    hub.failures["create_repo"] = OSError("403 Forbidden")
    with pytest.raises(OutputError, match=r"not on the hub: 403 Forbidden$") as caught:
        publish(tmp_path, "org/half", public=True)
    assert "--private" not in (caught.value.hint or "")


def test_nothing_starts_without_an_account(hub: FakeHub, tmp_path: Path) -> None:
    hub.failures["whoami"] = LocalTokenNotFoundError("Token is required")
    with pytest.raises(OutputError, match=r"there is no token$") as caught:
        run(tmp_path / "out", "model.name=no-such-model")
    assert "hf auth login" in (caught.value.hint or "")
    assert not (tmp_path / "out").exists()


def test_offline_is_a_usage_error(monkeypatch: pytest.MonkeyPatch, hub: FakeHub) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match=r"needs the hub, and HF_HUB_OFFLINE=1 forbids") as caught:
        check_account("org/half")
    assert caught.value.exit_code == 2
    assert "hf upload org/half DIR" in (caught.value.hint or "")
    assert hub.calls == []


@pytest.mark.parametrize("repository", ["org/a--b", "org/.a", "o r/a", "org/a.git", "a" * 97])
def test_a_name_that_the_hub_refuses_is_a_usage_error(repository: str, hub: FakeHub) -> None:
    with pytest.raises(ConfigError):
        check_account(repository)
    assert hub.calls == []


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (OSError(f"401 Client Error for {TOKEN}\nRequest ID"), "401 Client Error for ***"),
        (UnicodeEncodeError("ascii", "é", 0, 1, "no"), "'ascii' codec"),
        (ConnectionError(), "ConnectionError"),
    ],
)
def test_a_token_that_is_not_accepted(failure: Exception, reason: str, hub: FakeHub) -> None:
    hub.failures["whoami"] = failure
    with pytest.raises(OutputError) as caught:
        check_account("org/half")
    assert reason in str(caught.value)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("role", ["write", "fineGrained", None])
@pytest.mark.parametrize("owner", ["me", "org"])
def test_who_may_write(role: str | None, owner: str, hub: FakeHub) -> None:
    hub.account = {**ACCOUNT, "auth": {"accessToken": {"role": role}}}
    check_account(f"{owner}/half")


def test_who_may_not_write(hub: FakeHub) -> None:
    with pytest.raises(OutputError) as caught:
        check_account("others/half")
    assert str(caught.value) == "the token is of me, who is not in others"
    assert caught.value.hint == "choose one of me, org, or another token"
    hub.account = {**ACCOUNT, "auth": {"accessToken": {"role": "read"}}}
    with pytest.raises(OutputError, match=r"^the token of me may only read$"):
        check_account("me/half")


@pytest.mark.parametrize("value", ["half", "a/b/c", "org/", "/half", "org/a b"])
def test_the_setting_is_an_owner_and_a_name(value: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^output.push_to_hub must be ORG/NAME, got"):
        run(tmp_path, f"output.push_to_hub={value}")


def test_public_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing is pushed"):
        run(tmp_path, "output.push_to_hub=null", "output.public=true")
