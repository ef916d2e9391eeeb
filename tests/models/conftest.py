import huggingface_hub
import pytest


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    """No test asks the hub, and none sees the cache of the machine."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"
