"""Products with a layer's weights, against the same in float64."""

import pytest
import torch

from sb3_natural.networks import products

SHAPES = [(1_024, 64, 64), (2_048, 96, 48), (700, 200, 100), (1_024, 17, 64), (9, 64, 64)]


@pytest.fixture(params=["as here", "torch"])
def counted(request, monkeypatch):
    """The calls of oneDNN's operator: on this machine, and where it is missing."""
    calls = []
    operator = products._linear if request.param == "as here" else None

    class Counted:
        def __call__(self, *args):
            calls.append("plain")
            return operator(*args)

        def binary(self, *args):
            calls.append("binary")
            return operator.binary(*args)

    monkeypatch.setattr(products, "_linear", operator and Counted())
    return calls


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products_are_those_of_float64(shape, dtype, counted):
    torch.manual_seed(0)
    n, n_in, n_out = shape
    rows, delta = torch.randn(n, n_in, dtype=dtype), torch.randn(n, n_out, dtype=dtype)
    weight, bias = torch.randn(n_out, n_in, dtype=dtype), torch.randn(n_out, dtype=dtype)
    before = delta.clone(), weight.clone()
    found = [
        products.affine(rows, weight, bias, torch.empty(n, n_out, dtype=dtype)),
        products.product(delta, weight, torch.empty(n, n_in, dtype=dtype)),
        products.add_product(delta.clone(), rows, weight),
    ]
    total = weight.clone()
    products.add_outer(total, delta, rows, lambda: rows.t().contiguous())
    exact = [
        rows.double() @ weight.double().t() + bias.double(),
        delta.double() @ weight.double(),
        delta.double() + rows.double() @ weight.double().t(),
        weight.double() + delta.double().t() @ rows.double(),
    ]
    tolerance = 1e-6 if dtype == torch.float32 else 1e-14
    for actual, expected in zip([*found, total], exact, strict=True):
        assert (actual.double() - expected).norm() < tolerance * expected.norm()
    assert torch.equal(delta, before[0])
    assert torch.equal(weight, before[1])
    large = shape in SHAPES[:3] and dtype == torch.float32
    uses_it = large and products._linear is not None
    assert counted == (["plain", "plain", "binary", "plain"] if uses_it else [])


def test_it_is_found_where_this_torch_has_it():
    # If a later torch moves the operator, this fails, and updates are slower until it is found.
    if (
        torch.backends.cpu.get_cpu_capability() != "AVX512"
        or not torch.backends.mkldnn.is_available()
    ):
        pytest.skip("no AVX-512, or a torch without oneDNN")
    assert products._linear is not None
