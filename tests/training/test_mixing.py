import numpy as np
import pytest
import torch
from timm.loss import SoftTargetCrossEntropy
from torch import Tensor
from torch.nn import functional as F

from ramda_cli.config.schema import TrainingConfig
from ramda_cli.training.mixing import Mixing

CLASSES = 7


def batch(count: int = 6, side: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, 3, side, side, generator=generator)
    return images, torch.arange(count)


def mixing(**settings: float) -> Mixing:
    return Mixing(TrainingConfig.model_validate(settings), classes=CLASSES)


def test_without_alphas_nothing_is_mixed() -> None:
    images, labels = batch()
    mixed, targets = mixing()(images, labels, epoch=1, batch=0)
    assert mixed is images
    assert targets is labels


@pytest.mark.parametrize("count", [6, 7, 1])
def test_mixup_blends_images_and_labels_alike(count: int) -> None:
    images, labels = batch(count)
    kept = images.clone()
    mixed, targets = mixing(mixup=1.0)(images, labels, epoch=1, batch=3)
    assert torch.equal(images, kept)
    one_hot = F.one_hot(labels, CLASSES).float()
    partner = torch.arange(count - 1, -1, -1)
    if count % 2:
        partner = torch.cat([torch.tensor([0]), partner[:-1]])  # the first with itself
    share = float(targets[-1, labels[-1]])
    assert targets.shape == (count, CLASSES)
    assert (share < 1) == (count > 1)
    assert torch.allclose(targets, share * one_hot + (1 - share) * one_hot[partner], atol=1e-6)
    assert torch.allclose(mixed, share * images + (1 - share) * images[partner], atol=1e-6)


def test_cutmix_puts_in_a_rectangle_and_counts_its_area() -> None:
    images, labels = batch(side=16)
    mix = mixing(cutmix=1.0)
    areas = []
    for number in range(20):
        mixed, targets = mix(images, labels, epoch=1, batch=number)
        changed = (mixed != images).any(dim=1)
        rows, columns = changed[0].any(dim=1), changed[0].any(dim=0)
        assert torch.equal(changed[0], rows[:, None] & columns)
        assert torch.equal(mixed, torch.where(changed[:, None], images.flip(0), images))
        areas.append(float(changed[0].float().mean()))
        expected = torch.full((6,), 1 - areas[-1])
        assert torch.allclose(targets[torch.arange(6), labels], expected, atol=1e-6)
    assert min(areas) < 0.1 < 0.5 < max(areas)


def test_with_both_half_of_the_batches_are_cut() -> None:
    images, labels = batch()
    both = mixing(mixup=1.0, cutmix=1.0)
    cut = 0
    for number in range(100):
        mixed, _ = both(images, labels, epoch=1, batch=number)
        own, other = mixed == images, mixed == images.flip(0)
        cut += bool((own | other).all())
    assert 35 < cut < 65


def test_what_is_drawn_depends_on_seed_pass_and_batch_alone() -> None:
    images, labels = batch(side=32)
    mix = mixing(mixup=1.0, cutmix=1.0, seed=3)
    first = {(e, b): mix(images, labels, epoch=e, batch=b) for e in (1, 2) for b in range(3)}
    np.random.seed(7)
    state = np.random.get_state()[1].copy()
    again = mixing(mixup=1.0, cutmix=1.0, seed=3)  # as a resumed run has it
    for (epoch, number), (mixed, targets) in reversed(first.items()):
        other = again(images, labels, epoch=epoch, batch=number)
        assert torch.equal(mixed, other[0])
        assert torch.equal(targets, other[1])
    assert np.array_equal(np.random.get_state()[1], state)
    shares = {tuple(targets[0].tolist()) for _, targets in first.values()}
    assert len(shares) == 6
    other_seed = mixing(mixup=1.0, cutmix=1.0, seed=4)(images, labels, epoch=1, batch=0)
    assert not torch.equal(other_seed[1], first[1, 0][1])


def test_smoothing_in_the_loss_is_timms_smoothing_of_the_targets() -> None:
    from timm.data import Mixup

    images, labels = batch()
    logits = torch.randn(6, CLASSES, generator=torch.Generator().manual_seed(1))
    np.random.seed(0)
    _, smoothed = Mixup(0.4, label_smoothing=0.1, num_classes=CLASSES)(images.clone(), labels)
    np.random.seed(0)
    _, targets = Mixup(0.4, label_smoothing=0.0, num_classes=CLASSES)(images.clone(), labels)
    ours = F.cross_entropy(logits, targets, label_smoothing=0.1)
    assert torch.allclose(ours, SoftTargetCrossEntropy()(logits, smoothed), rtol=1e-5)
