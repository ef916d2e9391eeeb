"""From a model's name to a module that is ready to be inspected or trained."""

from ramda_cli.config.schema import ModelConfig
from ramda_cli.errors import ModelError
from ramda_cli.models.files import is_file_model, load_file_model
from ramda_cli.models.loaded import LoadedModel
from ramda_cli.models.model_config import place_of, transformers_config
from ramda_cli.models.packaged import PACKAGED, load_packaged
from ramda_cli.models.timm_models import load_timm
from ramda_cli.models.transformers_models import load_transformers


def load_model(
    config: ModelConfig,
    *,
    image_size: int | None = None,
    max_length: int | None = None,
    seed: int = 0,
) -> LoadedModel:
    """Load a model by name.

    | name | loads |
    |---|---|
    | `digits-resnet`, `transformer-xl`, `tacotron2` | a model that ships with the package |
    | `resnet50`, `resnet50.a1_in1k` | a timm model |
    | `hf-hub:org/name[@revision]`, `org/name` | a model on the Hugging Face hub |
    | `local-dir:PATH`, a directory | a model in a directory with `config.json` |
    | `path/to/file.py:factory` | any module; see `ramda_cli.models.files` |

    Whether a `config.json` is of timm or of transformers is in it.

    Args:
        config: the name, and the choice of weights and task.
        image_size: square side in pixels; the model's own when not given.
        max_length: most tokens of a text; what is usual, or the model takes, when not given.
        seed: of whatever starts from random weights; the process's own random state is kept.

    Raises:
        ModelError: the model or its weights cannot be found, read or matched.
    """
    if config.arguments and is_file_model(config.name):
        raise ModelError(
            f"model.arguments are for models by name, and {config.name} is a factory",
            hint="leave them out",
        )
    if config.name in PACKAGED:
        return load_packaged(config, image_size=image_size, seed=seed)
    if is_file_model(config.name):
        return load_file_model(config, image_size=image_size, seed=seed)
    if config.name.endswith(".safetensors"):
        raise ModelError(
            f"{config.name} is a weights file, not a model",
            hint=f"name the model and give the file with --weights {config.name}",
        )
    place = place_of(config.name)
    described = None if place is None else transformers_config(place)
    if place is not None and described is not None:
        return load_transformers(
            place, described, config, image_size=image_size, max_length=max_length, seed=seed
        )
    return load_timm(config, image_size=image_size, seed=seed)
