"""The model and the data of a run, which fit each other."""

import torch

from ramda_cli.config.schema import RunConfig
from ramda_cli.data.build import build_data
from ramda_cli.data.bundle import DataBundle
from ramda_cli.models.heads import adapt_head
from ramda_cli.models.loaded import LoadedModel
from ramda_cli.models.loading import load_model


def load_run(config: RunConfig) -> tuple[LoadedModel, DataBundle, bool]:
    """Load model and data, fit the head to the classes, and return whether it is a new one."""
    seed = config.training.seed
    torch.manual_seed(seed)
    loaded = load_model(config.model, image_size=config.data.image_size, seed=seed)
    data = build_data(config.data, loaded.preprocessing, seed=seed)
    fitted = adapt_head(loaded, len(data.class_names), seed=seed)
    return fitted, data, fitted is not loaded
