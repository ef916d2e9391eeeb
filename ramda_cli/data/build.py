"""From a data set's name to loaders."""

import os
from pathlib import Path

from ramda_cli.config.schema import DataConfig
from ramda_cli.data.bundle import DataBundle, ShuffledBatches
from ramda_cli.data.digits import ArrayImages, digits
from ramda_cli.data.folder import folder
from ramda_cli.data.hub import hub_dataset, imagenet, suggestion
from ramda_cli.data.images import ImageData, Images, limited, with_validation
from ramda_cli.data.loader import LoaderBatches
from ramda_cli.data.masked_images import hide, with_masks
from ramda_cli.data.memory import MemoryBatches, decode, is_coloured
from ramda_cli.data.policies import policy_of
from ramda_cli.data.tables import parquet, parquet_files
from ramda_cli.data.torchvision_sets import torchvision_set
from ramda_cli.data.transforms import image_transform, random_erasing_of, small_augmentation
from ramda_cli.errors import DataError
from ramda_cli.models.loaded import Preprocessing


def build_data(config: DataConfig, preprocessing: Preprocessing, *, seed: int) -> DataBundle:
    """Open the data set and build its training and validation loaders.

    Where something of the images is hidden from the model, they have no classes.

    Args:
        config: the name and how to read it; `image_size` is the model's affair.
        preprocessing: of the model.
        seed: of order and augmentation. What is held out does not depend on it.

    Raises:
        DataError: the data cannot be found or read, or does not fit.
    """
    if preprocessing.input_size[0] not in (1, 3):
        raise DataError(
            f"the model takes images of {preprocessing.input_size[0]} channels",
            hint="images are loaded in grey (1 channel) or colour (3 channels)",
        )
    data = with_validation(open_images(config))
    if data.val is None:
        raise ValueError("with_validation must give a validation split")
    train = limited(data.train, config.limit, seed=seed)
    sizes = len(train.labels), len(data.val.labels)
    images = f"{data.name}: {sizes[0]:,} training and {sizes[1]:,} validation images"
    bundle = DataBundle(
        train=_batches(train, config, preprocessing, training=True, seed=seed),
        val=_batches(data.val, config, preprocessing, training=False, seed=seed),
        class_names=data.class_names,
        train_size=sizes[0],
        val_size=sizes[1],
        description=f"{images}, {len(data.class_names)} classes",
        fingerprint=data.fingerprint,
        notes=data.notes,
        hub_id=data.hub_id,
    )
    if preprocessing.masking is None:
        return bundle
    preprocessing = with_masks(preprocessing, config)
    return hide(bundle, images, preprocessing, batch_size=config.batch_size, seed=seed)


def open_images(config: DataConfig) -> ImageData:
    """Find the data set that a name means.

    Raises:
        DataError: there is none, or it cannot be read.
    """
    name = config.name
    if name == "digits":
        return digits()
    if name == "imagenet":
        return imagenet(config)
    if name.startswith("torch/"):
        return torchvision_set(name, config)
    path = Path(name).expanduser()
    if path.is_dir():
        return parquet(path, config) if parquet_files(path) else folder(path, config)
    if path.is_file():
        if path.suffix == ".parquet":
            return parquet(path, config)
        raise DataError(
            f"{path} is not a data set", hint="give a parquet file or a directory of images"
        )
    if path.is_absolute() or name.startswith((".", "~")) or path.suffix == ".parquet":
        raise DataError(f"no such file or directory: {name}", hint="check the path given to --data")
    if os.sep not in name and "did you mean" in suggestion(name):
        raise DataError(f"unknown data set {name!r}", hint=suggestion(name))
    return hub_dataset(name, config)


def _batches(
    images: Images,
    config: DataConfig,
    preprocessing: Preprocessing,
    *,
    training: bool,
    seed: int,
) -> ShuffledBatches:
    """Load from memory where the decoded images are small, through worker processes elsewhere.

    A policy works on single images, and goes through the processes too.
    """
    channels = preprocessing.input_size[0]
    batch_size = config.batch_size if training else config.eval_batch_size
    augment = config.augment if training else "none"
    random_erasing = config.random_erasing if training else 0.0
    decoded = decode(images, channels=channels)
    side = None
    if decoded is not None:
        coloured, side = decoded.coloured, decoded.pixels.shape[1]
        if policy_of(augment) is None:
            shifts = None if augment == "none" else small_augmentation(side, coloured=coloured)
            return MemoryBatches(
                decoded,
                preprocessing,
                batch_size=batch_size,
                shuffle=training,
                augmentation=shifts,
                erase=random_erasing_of(random_erasing) if random_erasing > 0 else None,
                seed=seed,
            )
        images = ArrayImages(decoded.pixels.squeeze(-1).numpy(), images.labels)
    else:
        coloured = is_coloured(images.read(0).mode)
    return LoaderBatches(
        images,
        image_transform(
            preprocessing,
            augment=augment,
            random_erasing=random_erasing,
            coloured=coloured,
            side=side,
        ),
        channels=channels,
        batch_size=batch_size,
        shuffle=training,
        workers=config.workers,
        seed=seed,
    )
