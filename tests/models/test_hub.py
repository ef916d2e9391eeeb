"""What the hub may answer, and what the user reads."""

from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
)

from tests.models.helpers import refuse

WITHOUT = "pass --weights FILE.safetensors, or --no-pretrained"


@pytest.fixture
def answer(monkeypatch):
    def answer(kind):
        def respond(url, **options):
            response = SimpleNamespace(headers={}, request=None, status_code=401)
            raise kind("no", response=response)

        monkeypatch.setattr("ramda_cli.models.hub.get_hf_file_metadata", respond)

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return answer


def test_an_unknown_repository(answer):
    answer(RepositoryNotFoundError)
    refuse(
        "org/name",
        "unknown model 'org/name': the hub has no such repository or revision",
        "check the name; a private repository needs HF_TOKEN",
    )


def test_a_gated_repository(answer):
    answer(GatedRepoError)
    refuse(
        "org/name",
        "org/name asks for an accepted licence",
        "accept it at the hub's page of org/name and set HF_TOKEN",
    )
    refuse(
        "resnet18",
        "cannot get the pretrained weights of resnet18: the hub does not give "
        "timm/resnet18.a1_in1k to you",
        f"set HF_TOKEN to an account that may read it, {WITHOUT}",
    )


def test_a_repository_of_another_kind(answer):
    answer(RemoteEntryNotFoundError)
    refuse(
        "org/name",
        "org/name has no config.json",
        "name a repository that timm or transformers can load",
    )


def test_a_repository_with_nothing_but_a_pickle(answer):
    answer(RemoteEntryNotFoundError)
    refuse(
        "resnet18",
        "timm/resnet18.a1_in1k has no weights as safetensors, and pickled weights are never opened",
        WITHOUT,
    )


def test_a_download_that_breaks_off(answer, monkeypatch):
    def break_off(*args, **options):
        raise LocalEntryNotFoundError("connection lost")

    monkeypatch.setattr("ramda_cli.models.hub.get_hf_file_metadata", lambda url, timeout: None)
    monkeypatch.setattr("ramda_cli.models.hub.hf_hub_download", break_off)
    refuse(
        "resnet18",
        "cannot get the pretrained weights of resnet18: the hub cannot be reached "
        "(connection lost)",
        f"go online, set HF_HOME to a cache that holds timm/resnet18.a1_in1k, {WITHOUT}",
    )


def test_a_hub_in_trouble(answer):
    answer(HfHubHTTPError)
    refuse(
        "org/name",
        "cannot get the model org/name: the hub cannot be reached (no)",
        "go online, set HF_HOME to a cache that holds org/name, or name a directory: "
        "local-dir:PATH",
    )


def test_weights_that_timm_has_as_a_pickle_only():
    name = "gcvit_xxtiny.in1k"
    message = f"{name} has no weights as safetensors, and pickled weights are never opened"
    refuse(name, message, WITHOUT)
