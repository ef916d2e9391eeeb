"""Singular-value thresholding against a decomposition in float64, and the prox that it is."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ramda_cli.regularizers import NuclearNorm
from ramda_cli.regularizers.singular_values import symmetric_eigen, threshold_singular_values

SHAPES = [(1, 1), (1, 9), (9, 1), (5, 5), (40, 64), (64, 40)]


def matrix(rows: int, cols: int, spectrum: str, seed: int = 0) -> Tensor:
    """Return a float64 matrix whose largest singular value is 1."""
    generator = torch.Generator().manual_seed(seed)
    size = min(rows, cols)

    def orthogonal(n: int) -> Tensor:
        noise = torch.randn(n, size, generator=generator, dtype=torch.float64)
        return torch.linalg.qr(noise).Q

    values = {
        "linear": torch.linspace(1.0, 1.0 / size, size, dtype=torch.float64),
        "decades": torch.logspace(0, -6, size, dtype=torch.float64),
        "repeated": torch.tensor([1.0] * (size - size // 2) + [0.25] * (size // 2)).double(),
        "rank 1": torch.tensor([1.0] + [0.0] * (size - 1)).double(),
        "zero": torch.zeros(size, dtype=torch.float64),
    }[spectrum]
    return orthogonal(rows) @ torch.diag(values) @ orthogonal(cols).mT


def reference(x: Tensor, threshold: float) -> tuple[Tensor, int]:
    left, values, right = torch.linalg.svd(x.double(), full_matrices=False)
    shrunk = (values - threshold).clamp_min(0.0)
    return left @ torch.diag(shrunk) @ right, int((shrunk > 0).sum())


def check(x: Tensor, threshold: float) -> None:
    """Compare in single precision, with the matrix as it is then rounded."""
    rounded = x.float()
    expected, rank = reference(rounded, threshold)
    found = threshold_singular_values(rounded, torch.tensor(threshold))
    size = max(float(torch.linalg.matrix_norm(expected)), 1e-30)
    assert float(torch.linalg.matrix_norm(found.matrix.double() - expected)) <= 1e-5 * size
    assert int(found.rank) == rank
    assert found.matrix.dtype == torch.float32
    nuclear = float(torch.linalg.matrix_norm(expected, ord="nuc"))
    assert float(found.nuclear_norm) == pytest.approx(nuclear, rel=1e-4, abs=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("spectrum", ["linear", "decades", "repeated", "rank 1", "zero"])
@pytest.mark.parametrize("threshold", [0.69, 0.31, 3e-2, 3e-3, 3e-4])
def test_it_equals_a_decomposition(shape: tuple[int, int], spectrum: str, threshold: float) -> None:
    check(matrix(*shape, spectrum), threshold)


@pytest.mark.parametrize("shape", [(784, 512), (768, 3072), (1024, 1024)])
@pytest.mark.parametrize("threshold", [0.05, 1e-3])
def test_it_equals_a_decomposition_of_large_matrices(
    shape: tuple[int, int], threshold: float
) -> None:
    check(matrix(*shape, "decades"), threshold)


def test_nothing_is_left_above_the_largest_singular_value() -> None:
    found = threshold_singular_values(matrix(6, 9, "linear").float(), torch.tensor(1.001))
    assert int(found.rank) == 0
    assert not found.matrix.any()


@pytest.mark.parametrize("spectrum", ["linear", "zero"])
def test_no_threshold_changes_nothing(spectrum: str) -> None:
    x = matrix(7, 5, spectrum)
    found = threshold_singular_values(x, torch.tensor(0.0, dtype=torch.float64))
    assert torch.allclose(found.matrix, x, rtol=1e-12, atol=1e-13)


def test_each_matrix_of_a_batch_has_its_own_threshold() -> None:
    x = torch.stack([matrix(12, 8, "linear", seed) for seed in range(3)])
    thresholds = torch.tensor([0.11, 0.47, 2.0], dtype=torch.float64)  # on no singular value
    found = threshold_singular_values(x, thresholds)
    for number in range(3):
        expected, rank = reference(x[number], float(thresholds[number]))
        assert torch.allclose(found.matrix[number], expected, atol=1e-12)
        assert int(found.rank[number]) == rank


def test_what_is_not_finite_is_not_decomposed() -> None:
    x = torch.stack([matrix(4, 4, "linear"), torch.full((4, 4), torch.inf).double()])
    found = threshold_singular_values(x, torch.tensor([0.1, 0.1], dtype=torch.float64))
    assert found.matrix[0].isfinite().all()
    assert found.matrix[1].isnan().all()
    assert found.rank.tolist()[1] == 0


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weight", [0.0, 0.2, 5.0])
def test_the_prox_is_the_minimiser(shape: tuple[int, int], weight: float) -> None:
    """By the three-point inequality, at points near the prox and at some that are not."""
    regularizer, step = NuclearNorm(weight), 0.7
    x = matrix(*shape, "linear")
    found = regularizer.prox(x, step)

    def objective(z: Tensor) -> float:
        return float(regularizer.value(z) + (z - x).square().sum() / (2 * step))

    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(*shape, generator=generator, dtype=torch.float64)
    near = [found + size * noise for size in (1e-3, 1e-2, 1e-1, 1.0)]
    for z in (*near, 0.99 * found, 1.01 * found, torch.zeros_like(x), x):
        distance = float((z - found).square().sum() / (2 * step))
        assert objective(found) + distance <= objective(z) + 1e-12


def test_a_weight_is_finite_and_not_negative() -> None:
    for weight in (-1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="weight must be finite and >= 0"):
            NuclearNorm(weight)


@pytest.mark.parametrize("scale", [1e25, 1e-25])
def test_entries_whose_squares_single_precision_cannot_hold(scale: float) -> None:
    x = matrix(12, 8, "linear")
    expected, rank = reference(x, 0.31)
    found = threshold_singular_values((scale * x).float(), torch.tensor(0.31 * scale))
    torch.testing.assert_close(found.matrix.double() / scale, expected, rtol=1e-4, atol=1e-6)
    assert int(found.rank) == rank


def test_the_prox_of_low_precision_is_computed_in_single() -> None:
    x = matrix(12, 8, "linear").bfloat16()
    found = NuclearNorm(0.31).prox(x, 1.0)
    assert found.dtype == torch.bfloat16
    expected, _ = reference(x.float(), 0.31)
    torch.testing.assert_close(found.double(), expected, rtol=1e-2, atol=1e-2)


def test_subnormal_entries_make_no_nan() -> None:
    """MKL's ssyevd returns NaN for this Gram matrix, of an optimizer step, which is finite."""
    gram = load_file(Path(__file__).with_name("subnormal.safetensors"))["gram"]
    values, vectors = symmetric_eigen(gram)
    exact = torch.linalg.eigvalsh(gram.double())
    torch.testing.assert_close(values.double(), exact, rtol=1e-5, atol=1e-6 * float(exact[-1]))
    torch.testing.assert_close(vectors.mT @ vectors, torch.eye(len(gram)), rtol=0, atol=1e-5)
