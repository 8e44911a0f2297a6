"""Products and spectra against NumPy's, of every layout that the statistics pass."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from kdist.evals.statistics.products import _rounded, eigenvalues, product, scatter_matrix, singular_values

RNG = np.random.default_rng(0)


def test_products_of_views_and_stacks() -> None:
    stack, matrix = RNG.normal(size=(3, 5, 7)), RNG.normal(size=(4, 7))
    for first, second in (
        (matrix, stack[0].T),
        (stack, matrix.T),
        (stack.transpose(0, 2, 1)[:, 1:], stack[:, :, ::2]),
        (matrix, matrix[0]),
    ):
        np.testing.assert_allclose(product(first, second), first @ second, rtol=1e-13, atol=1e-13)  # another order


@pytest.mark.filterwarnings("error")
def test_read_only_arrays_raise_no_warning() -> None:
    """As NumPy's diagonals are."""
    torch.set_warn_always(True)  # not once a process
    stack = RNG.normal(size=(3, 5, 5))
    diagonals = np.diagonal(stack, axis1=1, axis2=2)
    assert not diagonals.flags.writeable
    try:
        np.testing.assert_allclose(product(diagonals, stack[0]), diagonals @ stack[0], rtol=1e-13)
    finally:
        torch.set_warn_always(False)


@pytest.mark.parametrize("width", [3, 256, 600])  # one block, just one, the last one narrower
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_scatter_matrix_is_the_whole(width: int, kind: type) -> None:
    samples = RNG.normal(size=(40, width)).astype(kind)
    found = scatter_matrix(samples)
    assert found.dtype == kind
    exact = samples.astype(np.float64).T @ samples.astype(np.float64)
    np.testing.assert_allclose(found, exact, atol=40 * np.finfo(kind).eps * np.abs(exact).max())  # 40 roundings


def test_spectra() -> None:
    stack = RNG.normal(size=(2, 6, 4))
    squares = stack.transpose(0, 2, 1) @ stack
    np.testing.assert_allclose(singular_values(stack)[..., ::-1] ** 2, eigenvalues(squares), rtol=1e-10)
    np.testing.assert_allclose(eigenvalues(squares), np.linalg.eigvalsh(squares), rtol=1e-10)  # of condition 1e3


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_no_digit_is_lost_to_what_torch_was_told_for_networks(precision: str) -> None:
    samples = RNG.normal(size=(512, 512)).astype(np.float32)
    exact = samples.astype(np.float64).T @ samples.astype(np.float64)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        found = product(samples.T, samples), scatter_matrix(samples)
    finally:
        torch.set_float32_matmul_precision(before)
    for one in found:  # float32 is within 0.001; bfloat16, on processors that have it, within 0.3
        np.testing.assert_allclose(one, exact, atol=0.01)


@pytest.mark.parametrize(
    ("told", "rounded"),
    [("none", False), ("ieee", False), ("tf32", True), ("bf16", True), ("highest", False), ("medium", True)],
)
def test_what_torch_was_told_is_seen_by_old_and_new_name(
    told: str, rounded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On any processor: which of them round is torch's affair."""
    new = SimpleNamespace(matmul=SimpleNamespace(fp32_precision=told))
    old = SimpleNamespace()  # torch before 2.9
    for mkldnn in (new, old):
        monkeypatch.setattr(torch.backends, "mkldnn", mkldnn)
        monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: told)
        assert _rounded() == rounded
