"""Images straight from a sampler, without a detour through files.

Sample i has label ``labels[i]`` and a seed of its own, derived from ``(seed, i)`` alone; its noise is drawn on the
CPU from that seed. So what it looks like depends neither on the batch it is in nor on how many processes share the
work (beyond the last bits of float arithmetic), and two guidance settings with one seed are paired sample by sample.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Any

import numpy as np
import torch

from ..hashing import array_hash, module_hash
from ..labels import as_labels, class_labels
from .base import BadImage, Source
from .brownian import BrownianPath
from .pictures import ValueRange, as_pictures, far_outside

__all__ = ["GeneratorSource", "SamplerSource", "sample_from_seeds", "sample_seeds"]

_PROBES = 2  # samples that are drawn to notice what no hash of the weights shows


def sample_seeds(seed: int, count: int) -> list[int]:
    """One independent 63-bit seed per sample: the i-th depends on ``(seed, i)`` only."""
    return [int(np.random.SeedSequence([seed, i]).generate_state(1, np.uint64)[0]) >> 1 for i in range(count)]


class GeneratorSource(Source):
    """A function that draws images for labels and seeds.

    Args:
        generate: ``generate(labels, seeds) -> images``: (n,) int64 tensor and list of n ints to (n, C, H, W), uint8
            or floats on ``value_range``. Each image may depend on its own label and seed only.
        labels: (N,) the class of each sample, a whole number from 0.
        seed: the run's seed.
        value_range: what black and white are; (-1, 1) in k-diffusion.
        classes: names of the numbers, by number or in order, as real images have them (``real.classes``).
        key: anything that tells this function from others; with the first samples, which are drawn as a probe, it
            decides whether cached features are still good.

    Raises:
        ValueError: no label, names as labels, or images of another form.

    Examples:
        >>> import torch
        >>> from kdist.evals import GeneratorSource, extract
        >>> def generate(labels, seeds):  # stands for a sampler
        ...     images = [torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        ...     return torch.stack(images) * 2 - 1
        >>> extract(GeneratorSource(generate, labels=[0, 0, 1, 1]), "pixels").x.shape
        (4, 192)
    """

    concurrent = False  # the sampler and the network would compete for the device
    seeds: Sequence[int]

    def __init__(
        self,
        generate: Callable[[torch.Tensor, list[int]], torch.Tensor],
        labels: Any,
        *,
        seed: int = 0,
        value_range: ValueRange = (-1.0, 1.0),
        classes: Mapping[int, str] | Sequence[str] | None = None,
        key: str = "",
        description: str = "sampler",
    ) -> None:
        if not len(labels):
            raise ValueError("labels is empty: say which classes to sample, one label per image")
        if as_labels("labels", labels, len(labels)).dtype.kind == "U":
            raise ValueError("labels must be the numbers that the model knows its classes by; name them with classes=")
        self.labels, self.classes = class_labels("labels", labels, len(labels), classes)
        self.seeds = sample_seeds(seed, len(self.labels))
        self.description = f"{description}, seed {seed}"
        self._generate, self._range, self._key = generate, value_range, key
        self._fingerprint: bytes | None = None

    def name(self, index: int) -> str:
        return f"sample {index} (class {self.labels[index]})"

    def digest(self, index: int) -> bytes:
        if self._fingerprint is None:
            probes = self.load(range(min(_PROBES, len(self))))
            content = [self._key.encode(), str(self._range).encode()]
            content += [image.reason.encode() if isinstance(image, BadImage) else array_hash(image) for image in probes]
            self._fingerprint = hashlib.sha256(b"\0".join(content)).digest()
        own = f" {self.labels[index]} {self.seeds[index]}".encode()
        return hashlib.sha256(self._fingerprint + own).digest()

    def load(self, indices: Sequence[int], pool: Executor | None = None) -> list[np.ndarray | BadImage]:
        chosen = list(indices)
        labels = torch.from_numpy(self.labels[chosen])
        with torch.no_grad():
            images = self._generate(labels, [self.seeds[index] for index in chosen])
        if (
            not torch.is_tensor(images)
            or images.ndim != 4
            or len(images) != len(chosen)
            or images.shape[1] not in (1, 3)
        ):
            got = tuple(images.shape) if torch.is_tensor(images) else type(images).__name__
            raise ValueError(f"the sampler must give ({len(chosen)}, C, H, W) images with C = 1 or 3; got {got}")
        self.value_range = self._range if images.is_floating_point() else None
        reasons = self._why_bad(images)
        good = torch.tensor([reason is None for reason in reasons], device=images.device)
        found = as_pictures(images[good], value_range=self._range, layout="NCHW", name=self.description)
        pictures = iter(found)
        return [next(pictures) if reason is None else BadImage(reason) for reason in reasons]

    def _why_bad(self, images: torch.Tensor) -> list[str | None]:
        """What is wrong with single samples that diverged; what is wrong with all is left for a refusal."""
        if not images.is_floating_point():
            return [None] * len(images)
        finite = images.isfinite().flatten(1).all(1).tolist()
        lows, highs = images.flatten(1).amin(1).tolist(), images.flatten(1).amax(1).tolist()
        far = [
            good and far_outside(low, high, self._range) for good, low, high in zip(finite, lows, highs, strict=True)
        ]
        if sum(far) > 1 and all(far):
            far = [False] * len(far)
        return [
            "NaN or infinite pixels" if not good else f"values in [{low:.4g}, {high:.4g}], far outside" if out else None
            for good, out, low, high in zip(finite, far, lows, highs, strict=True)
        ]


class SamplerSource(GeneratorSource):
    """A k-diffusion sampler with labels.

    Args:
        model: a k-diffusion denoiser, ``model(x, sigma, **extra_args)``; guided or not.
        sampler: a function of ``k_diffusion.sampling`` that takes ``(model, x, sigmas, extra_args=...)``. Samplers
            with fresh noise get it from each sample's seed.
        sigmas: (steps + 1,) decreasing noise levels; samples start as N(0, sigmas[0]^2).
        labels: (N,) the class of each sample.
        shape: (C, H, W) of one sample.
        seed: the run's seed.
        class_key: the argument under which the model takes labels; None for a model without classes.
        extra_args: further arguments of the model, the same for all samples.
        sampler_options: further options of the sampler.
        device: where to sample.
        value_range: what black and white are.
        classes: names of the class numbers, as real images have them.
        key: tells apart what the weights and the probe cannot.

    Raises:
        ValueError: a sampler that draws noise which no seed controls (``s_churn > 0``), wrong sigmas or shape.

    Examples:
        >>> import kdist, torch
        >>> from kdist import digits
        >>> from kdist.evals import SamplerSource, extract
        >>> K = kdist.import_k_diffusion()
        >>> labels = torch.arange(10)
        >>> model, euler = digits.load_model(), K.sampling.sample_euler
        >>> source = SamplerSource(model, euler, digits.sigmas(4), labels, shape=(1, 8, 8))
        >>> extract(source, "pixels").x.shape
        (10, 64)
    """

    def __init__(
        self,
        model: Callable[..., torch.Tensor],
        sampler: Callable[..., torch.Tensor],
        sigmas: torch.Tensor,
        labels: Any,
        *,
        shape: tuple[int, int, int],
        seed: int = 0,
        class_key: str | None = "class_cond",
        extra_args: Mapping[str, Any] | None = None,
        sampler_options: Mapping[str, Any] | None = None,
        device: str | torch.device = "cpu",
        value_range: ValueRange = (-1.0, 1.0),
        classes: Mapping[int, str] | Sequence[str] | None = None,
        key: str = "",
    ) -> None:
        options = dict(sampler_options or {})
        if options.get("s_churn", 0) != 0:
            raise ValueError(
                "sampler_options: s_churn draws from torch's global generator, so that samples would depend on their "
                "batch; use an ancestral or SDE sampler for fresh noise"
            )
        if "noise_sampler" in options:
            raise ValueError("sampler_options: noise_sampler is made from each sample's own seed; leave it out")
        if len(shape) != 3 or shape[0] not in (1, 3):
            raise ValueError(f"shape must be (C, H, W) of one sample with C = 1 or 3; got {tuple(shape)}")
        sigmas = torch.as_tensor(sigmas)
        if sigmas.ndim != 1 or len(sigmas) < 2 or not (sigmas[:-1] > sigmas[1:]).all() or sigmas[-1] < 0:
            raise ValueError(f"sigmas must decrease from the largest noise level to at least 0; got {sigmas}")
        self._model, self._sampler, self._options = model, sampler, options
        self._sigmas, self._device, self._shape = sigmas.to(device), torch.device(device), tuple(shape)
        self._class_key, self._extra_args = class_key, dict(extra_args or {})
        base = _plain_function(sampler)
        weights = module_hash(model) if isinstance(model, torch.nn.Module) else type(model).__name__
        name = getattr(base, "__name__", type(base).__name__)
        identity = [weights, name, sigmas.tolist(), str(shape), class_key, sorted(options.items()), key]
        super().__init__(
            self._sample,
            labels,
            seed=seed,
            value_range=value_range,
            classes=classes,
            key=repr(identity),
            description=f"{name}, {len(sigmas) - 1} steps",
        )

    def _sample(self, labels: torch.Tensor, seeds: list[int]) -> torch.Tensor:
        extra_args = dict(self._extra_args)
        if self._class_key is not None:
            extra_args[self._class_key] = labels.to(self._device)
        return sample_from_seeds(
            self._model,
            self._sampler,
            self._sigmas,
            self._shape,
            seeds,
            extra_args=extra_args,
            options=self._options,
            device=self._device,
        )


def sample_from_seeds(
    model: Callable[..., torch.Tensor],
    sampler: Callable[..., torch.Tensor],
    sigmas: torch.Tensor,
    shape: tuple[int, ...],
    seeds: Sequence[int],
    *,
    extra_args: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    device: str | torch.device = "cpu",
) -> torch.Tensor:
    """Run a k-diffusion sampler with all of a sample's noise drawn from the sample's own seed.

    Args:
        model, sampler, sigmas, extra_args, device: the same as in :class:`SamplerSource`.
        shape: Shape of one sample.
        seeds: N ints.
        options: The sampler's own options.

    Returns:
        (N, *shape) samples.
    """
    generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]

    def noise() -> torch.Tensor:
        return torch.stack([torch.randn(shape, generator=generator) for generator in generators])

    x = noise().to(device, sigmas.dtype) * sigmas[0]
    options = dict(options or {})
    accepted = inspect.signature(sampler).parameters
    if "noise_sampler" in accepted:
        base = _plain_function(sampler)
        if "BrownianTreeNoiseSampler" in getattr(getattr(base, "__code__", None), "co_names", ()):
            path = BrownianPath(noise)  # the steps of samplers that make a Brownian tree for themselves may overlap
            options["noise_sampler"] = lambda sigma, sigma_next: path(sigma, sigma_next).to(x)
        else:
            options["noise_sampler"] = lambda sigma, sigma_next: noise().to(x)
    if "disable" in accepted:
        options.setdefault("disable", True)
    return sampler(model, x, sigmas, extra_args=dict(extra_args or {}), **options)


def _plain_function(sampler: Any) -> Any:
    """The function inside ``functools.partial`` and decorators."""
    return inspect.unwrap(sampler.func if isinstance(sampler, partial) else sampler)
