"""Running in float64 throughout, whatever precision a model asks for inside."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ramda_cli.structure.float64 import float64_throughout

THIRD = torch.tensor(1 / 3, dtype=torch.float64)


@pytest.mark.parametrize(
    "narrow",
    [
        lambda x: x.float(),
        lambda x: x.to(torch.bfloat16),
        lambda x: x.half().exp().log(),
        lambda x: x.sum(dtype=torch.float32),
        lambda x: x * torch.ones(1, dtype=torch.float32),
        lambda x: F.softmax(torch.stack([x, x + 1]), dim=0, dtype=torch.float32).sum() * x,
        lambda x: x + torch.zeros(()),
        lambda x: torch.full((), float(x)),
        lambda x: torch.arange(2.0)[1] * x,
        lambda x: torch.sqrt(torch.tensor(4.0, dtype=torch.float32)) * x / 2,
    ],
)
def test_nothing_is_rounded(narrow: object) -> None:
    with float64_throughout():
        y = narrow(THIRD)  # type: ignore[operator]
    assert y.dtype == torch.float64
    assert abs(float(y) - 1 / 3) < 1e-15


def test_bits_are_read_as_they_are() -> None:
    with float64_throughout():
        bits = THIRD.view(torch.int64)
        assert bits.view(torch.float64) == THIRD


def test_the_default_precision_comes_back() -> None:
    with pytest.raises(ZeroDivisionError), float64_throughout():
        raise ZeroDivisionError
    assert torch.get_default_dtype() == torch.float32
    assert torch.zeros(1).dtype == torch.float32


def test_grouped_products_which_torch_lacks_in_float64() -> None:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x, weights = random(7, 8), random(3, 8, 4)
    ends = torch.tensor([2, 2, 7], dtype=torch.int32)
    with float64_throughout():
        product = F.grouped_mm(x, weights, offs=ends)
    expected = torch.cat([x[:2] @ weights[0], x[2:] @ weights[2]])
    torch.testing.assert_close(product, expected, rtol=1e-14, atol=1e-14)
