"""Train `digits-resnet`, the model that ships with the package; about 20 seconds on one CPU core.

    python scripts/train_digits_model.py [OUTPUT.safetensors]

AdamW, one-cycle cosine learning rate and random shifts by one pixel, on the training split of the
digits; the held-out split is only measured, at the end. Deterministic on one machine for one torch
version.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from ramda_cli.data.digits import digits
from ramda_cli.data.memory import Augmentation, MemoryBatches, decode
from ramda_cli.models.digits_resnet import DIGITS_PREPROCESSING, DigitsResNet
from ramda_cli.models.packaged import pretrained_file

EPOCHS = 40
BATCH_SIZE = 64
PEAK_LR = 3e-3
WEIGHT_DECAY = 0.05
SEED = 0


def train(batches: MemoryBatches) -> DigitsResNet:
    """Return a network trained on `batches`."""
    torch.manual_seed(SEED)
    model = DigitsResNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LR, weight_decay=WEIGHT_DECAY)
    steps = EPOCHS * len(batches)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LR, total_steps=steps)
    model.train()
    for _ in range(EPOCHS):
        for images, labels in batches:
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def accuracy(model: DigitsResNet, batches: MemoryBatches) -> float:
    """Return the share of images whose largest logit is their label's."""
    correct = sum(int((model(x).argmax(1) == y).sum()) for x, y in batches)
    return correct / sum(len(y) for _, y in batches)


def main() -> None:
    """Train, measure and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, nargs="?", default=pretrained_file("digits-resnet"))
    output: Path = parser.parse_args().output

    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)  # sums of several threads are rounded in another order
    data = digits()
    train_images, held_out = (decode(part, channels=1) for part in (data.train, data.val))
    training = MemoryBatches(
        train_images,
        DIGITS_PREPROCESSING,
        batch_size=BATCH_SIZE,
        shuffle=True,
        augmentation=Augmentation(shift=1, flip=False),
        seed=SEED,
    )
    model = train(training)
    held_out_batches = MemoryBatches(
        held_out, DIGITS_PREPROCESSING, batch_size=BATCH_SIZE, shuffle=False
    )
    save_file(model.state_dict(), output, metadata={"format": "pt"})
    print(f"held-out accuracy {accuracy(model, held_out_batches):.2%}, saved {output}")


if __name__ == "__main__":
    main()
