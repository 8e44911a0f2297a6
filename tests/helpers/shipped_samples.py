"""Unguided samples of the shipped models, made once for all tests that look at them."""

import functools

import torch

from kdist import digits
from kdist.compat import import_k_diffusion


@functools.cache
def unguided_samples(example):
    """Samples of each class and their labels: 40 digits each, 20 garments (a larger network), both in six steps."""
    labels = torch.arange(10).repeat_interleave(40 if example is digits else 20)
    shape = example.load_data()[0].shape[1:]
    noise = torch.randn(len(labels), *shape, generator=torch.Generator().manual_seed(7)) * example.SIGMA_MAX
    return import_k_diffusion().sampling.sample_dpmpp_2m(
        example.load_model(), noise, example.sigmas(6), extra_args={"class_cond": labels}, disable=True
    ), labels
