"""The classic class, k-diffusion's ``CFGDenoiser`` with a schedule: the same numbers, one scale per row, errors."""

import numpy as np
import pytest
import torch

import kdist


def batch():
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


def classic(model, x, sigma, uncond, cond, cond_scale):
    both = model(torch.cat([x, x]), torch.cat([sigma, sigma]), cond=torch.cat([uncond, cond]))
    uncond, cond = both.chunk(2)
    return uncond + (cond - uncond) * cond_scale


def prompted(x, sigma, cond):
    return x * 0.5 + cond.mean(1)


def test_cfg_denoiser_is_a_drop_in():
    x = batch()
    cond, uncond = torch.randn(2, 4, 7, 3, generator=torch.Generator().manual_seed(1))
    args = (x, torch.ones(4), uncond, cond, 7.5)
    assert torch.equal(kdist.CFGDenoiser(prompted)(*args), classic(prompted, *args))


def test_cfg_denoiser_with_a_schedule():
    x = batch()
    cond, uncond = torch.randn(2, 4, 7, 3, generator=torch.Generator().manual_seed(1))
    denoiser = kdist.CFGDenoiser(prompted, kdist.LateNegative(3.0, 1.0))
    early, late = torch.full((4,), 2.0), torch.full((4,), 0.5)
    assert torch.equal(denoiser(x, early, uncond, cond, 7.5), classic(prompted, x, early, uncond, cond, 7.5))
    assert torch.equal(denoiser(x, early, uncond, cond), classic(prompted, x, early, uncond, cond, 3.0))
    assert torch.equal(denoiser(x, late, uncond, cond, 7.5), prompted(x, late, uncond))


def test_cfg_denoiser_takes_nested_conditions():
    """Web interfaces pass dictionaries of lists of tensors."""

    def model(x, sigma, cond):
        return x + cond["crossattn"][0].mean(1) + cond["concat"][0]

    x = batch()
    cond = {"crossattn": [torch.ones(4, 7, 3)], "concat": [torch.zeros(4, 3)]}
    uncond = {"crossattn": [torch.zeros(4, 7, 3)], "concat": [torch.zeros(4, 3)]}
    torch.testing.assert_close(kdist.CFGDenoiser(model)(x, torch.ones(4), uncond, cond, 2.0), x + 2.0)


def test_cfg_denoiser_without_any_scale():
    x = batch()
    with pytest.raises(ValueError, match="no guidance scale"):
        kdist.CFGDenoiser(prompted)(x, torch.ones(4), torch.zeros(4, 7, 3), torch.zeros(4, 7, 3))
    plain = kdist.CFGDenoiser(prompted, lambda s: 3.0)
    with pytest.raises(ValueError, match="a plain function has none"):
        plain(x, torch.ones(4), torch.zeros(4, 7, 3), torch.zeros(4, 7, 3), 7.5)


@pytest.mark.parametrize(
    "scale",
    [7.5, np.float32(7.5), np.float64(7.5), torch.tensor(7.5), torch.tensor(7.5, dtype=torch.float16)],
    ids=repr,
)
def test_a_cond_scale_is_any_real_number(scale):
    cond, uncond = torch.randn(2, 4, 7, 3, generator=torch.Generator().manual_seed(1))
    args = (batch(), torch.ones(4), uncond, cond)
    for schedule in (None, kdist.Constant(2.0)):
        denoiser = kdist.CFGDenoiser(prompted, schedule)
        assert torch.equal(denoiser(*args, scale), classic(prompted, *args, 7.5))


@pytest.mark.parametrize(
    "form",
    [
        lambda s: s,
        lambda s: s.view(-1, 1),
        lambda s: s.view(-1, 1, 1, 1),
        lambda s: s.numpy(),
        lambda s: s.tolist(),
        lambda s: s.half(),
    ],
)
def test_cond_scale_per_row(form):
    x = batch()
    cond, uncond = torch.randn(2, 4, 7, 3, generator=torch.Generator().manual_seed(1))
    scales = torch.tensor([7.5, 1.0, 0.0, 2.0])
    expected = prompted(x, None, uncond) + scales[:, None] * (prompted(x, None, cond) - prompted(x, None, uncond))
    for schedule, sigma in ((None, 1.0), (kdist.LateNegative(3.0, 0.5), 1.0)):
        denoiser = kdist.CFGDenoiser(prompted, schedule)
        out = denoiser(x, torch.full((4,), sigma), uncond, cond, form(scales))
        torch.testing.assert_close(out, expected)
        assert denoiser.nfe == 1.5
    late = kdist.CFGDenoiser(prompted, kdist.LateNegative(3.0, 0.5))
    assert torch.equal(late(x, torch.full((4,), 0.1), uncond, cond, form(scales)), prompted(x, None, uncond))


@pytest.mark.parametrize("scale", [torch.ones(3), [1.0, 2.0], "four", [[1.0], "x"], True, {"a": 1}])
def test_cond_scale_that_fits_no_batch(scale):
    x = batch()
    with pytest.raises(ValueError, match="cond_scale must be a number, or"):
        kdist.CFGDenoiser(prompted)(x, torch.ones(4), torch.zeros(4, 7, 3), torch.zeros(4, 7, 3), scale)
