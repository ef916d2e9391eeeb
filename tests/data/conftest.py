import datasets
import huggingface_hub
import pytest


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path_factory):
    """No test asks the hub, and none sees or fills the caches of the machine."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
    monkeypatch.delenv("IMAGENET_DIR", raising=False)
