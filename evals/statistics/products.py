"""Products and spectra of NumPy arrays, made by torch.

NumPy 1, which k-diffusion asks for, brings a library that knows no processor newer than itself and then works as for
one of 2004, several times slower than torch. Where both know the processor torch is about as fast, and its products
leave Python's lock to the other threads.
"""

from __future__ import annotations

import numpy as np
import torch

__all__ = ["eigenvalues", "product", "scatter_matrix", "singular_values"]

_COLUMNS = 256  # of a scatter matrix in one go


def product(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """``first @ second`` of arrays of the same kind of float, with all its digits whatever torch was told."""
    if first.dtype == np.float32 and _rounded():
        return first @ second
    return (_tensor(first) @ _tensor(second)).numpy()


def scatter_matrix(samples: np.ndarray) -> np.ndarray:
    """(d, d) sums of products ``samples.T @ samples`` of (n, d) samples, little more than its upper half computed."""
    width = samples.shape[1]
    found = np.empty((width, width), dtype=samples.dtype)
    for start in range(0, width, _COLUMNS):
        some = slice(start, start + _COLUMNS)
        rows = product(samples[:, some].T, samples[:, start:])
        found[start:, some], found[some, start:] = rows.T, rows
    return found


def eigenvalues(matrices: np.ndarray) -> np.ndarray:
    """(..., n) of symmetric (..., n, n) matrices, rising."""
    return torch.linalg.eigvalsh(_tensor(matrices)).numpy()


def singular_values(matrices: np.ndarray) -> np.ndarray:
    """(..., min(n, m)) of (..., n, m) matrices, falling."""
    return torch.linalg.svdvals(_tensor(matrices)).numpy()


def _tensor(array: np.ndarray) -> torch.Tensor:
    """The same memory; of a read-only array, which torch warns of, a copy."""
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _rounded() -> bool:
    """Whether torch may round float32 in products: ``set_float32_matmul_precision("medium")``, which many set for their
    networks, means bfloat16 on the CPU too."""
    matmul = getattr(torch.backends.mkldnn, "matmul", None)  # torch 2.9; where it was used the old function raises
    precision = torch.get_float32_matmul_precision() if matmul is None else matmul.fp32_precision
    return precision not in ("highest", "ieee", "none")
