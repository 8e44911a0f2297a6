"""Samplers as sources of images: each sample depends on its own seed and label alone."""

import numpy as np
import pytest
import torch

from kdist.evals.sources import BadImage, GeneratorSource, SamplerSource, quantise, sample_seeds


class Denoiser(torch.nn.Module):
    """The exact denoiser of class-dependent Gaussians N(label / 10, 0.3^2), smoothed by a 1x1 convolution's worth."""

    def forward(self, x, sigma, class_cond):
        variance = 0.3**2
        mean = (class_cond / 10)[:, None, None, None]
        ratio = (variance / (variance + sigma**2))[:, None, None, None]
        return mean + ratio * (x - mean)


def load_in_batches(source, size):
    return np.stack([image for start in range(0, len(source), size) for image in source.load(
        range(start, min(start + size, len(source))))])  # fmt: skip


class TestSamplers:
    sigmas = torch.cat([torch.linspace(5, 0.1, 6), torch.zeros(1)])

    @pytest.mark.parametrize("name", ["dpmpp_2m", "euler_ancestral", "dpmpp_sde", "dpmpp_2m_sde"])
    def test_samples_do_not_depend_on_the_batch(self, name):
        from kdist.compat import import_k_diffusion

        sampler = getattr(import_k_diffusion().sampling, "sample_" + name)
        labels = np.arange(12) % 3

        def source(**options):
            return SamplerSource(Denoiser(), sampler, self.sigmas, labels, shape=(1, 3, 3), **options)

        whole = load_in_batches(source(), 12)
        # per-sample arithmetic is elementwise here, so that not even the last bit may differ
        np.testing.assert_array_equal(load_in_batches(source(), 5), whole)
        np.testing.assert_array_equal(np.stack(source().load([7, 3])), whole[[7, 3]])
        assert not np.array_equal(load_in_batches(source(seed=1), 12), whole)
        assert len({image.tobytes() for image in whole}) == 12

    def test_one_step_is_a_run(self):
        """From two levels; the model's own answer to noise of the first."""

        def jump(model, x, sigmas, extra_args=None):
            return model(x, sigmas[0].expand(len(x)), **extra_args)

        source = SamplerSource(Denoiser(), jump, torch.tensor([5.0, 0.0]), [1, 2], shape=(1, 3, 3))
        assert len(source.load([0, 1])) == 2

    @pytest.mark.parametrize(("name", "count"), [("euler_ancestral", 200), ("dpmpp_sde", 40)])
    def test_law_of_the_samples(self, name, count):
        """Same mean and deviation as with the sampler's own noise, which depends on the batch."""
        from kdist.compat import import_k_diffusion

        sampler = getattr(import_k_diffusion().sampling, "sample_" + name)
        ours = load_in_batches(SamplerSource(Denoiser(), sampler, self.sigmas, [5] * count, shape=(1, 8, 8)), count)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            noise = torch.randn(count, 1, 8, 8) * self.sigmas[0]
            extra_args = {"class_cond": torch.full((count,), 5)}
            own = quantise(sampler(Denoiser(), noise, self.sigmas, extra_args=extra_args, disable=True), (-1, 1))
        ours, own = ours.astype(float), own.numpy().astype(float)
        error = own.std() / own.size**0.5  # pixels are independent in this model
        assert abs(ours.mean() - own.mean()) < 4 * 2**0.5 * error
        assert abs(ours.std() - own.std()) < 4 * 2**0.5 * error / 2**0.5

    def test_sampler_without_k_diffusion(self):
        """Any function with the samplers' signature; fresh noise then comes from each sample's generator."""

        def jumpy(model, x, sigmas, extra_args=None, noise_sampler=None):
            return model(x, sigmas[0] * torch.ones(len(x)), **extra_args) + 0.1 * noise_sampler(sigmas[0], sigmas[1])

        source = SamplerSource(Denoiser(), jumpy, self.sigmas, [1, 2, 3], shape=(3, 4, 4))
        np.testing.assert_array_equal(load_in_batches(source, 1), load_in_batches(source, 3))

    def test_digest_sees_model_schedule_and_options(self):
        def still(model, x, sigmas, extra_args=None):
            return model(x, sigmas[0] * torch.ones(len(x)), **extra_args)

        class Guided(Denoiser):
            scale = 1.0

            def forward(self, x, sigma, class_cond):
                return self.scale * super().forward(x, sigma, class_cond)

        def digest(model=None, sigmas=self.sigmas, labels=(0, 1, 1), **options):
            source = SamplerSource(model or Denoiser(), still, sigmas, list(labels), shape=(1, 3, 3), **options)
            return source.digest(2)

        guided = Guided()
        guided.scale = 1.5  # in no state_dict: the probe has to notice
        digests = [digest(), digest(guided), digest(sigmas=self.sigmas * 2), digest(labels=(0, 1, 2)), digest(seed=1),
                   digest(key="other")]  # fmt: skip
        assert len(set(digests)) == len(digests)
        assert digest() == digest()

    def test_digest_sees_what_no_probe_shows(self):
        """A sampler whose first samples are all alike: the levels, the shape and the options must be in the hash."""

        def constant(model, x, sigmas, extra_args=None, eta=0.0):
            return torch.zeros(len(x), 1, 3, 3) - 0.5

        def digest(sigmas=self.sigmas, **options):
            return SamplerSource(Denoiser(), constant, sigmas, [0, 1], **{"shape": (1, 3, 3)} | options).digest(1)

        digests = [digest(), digest(sigmas=self.sigmas * 2), digest(shape=(1, 4, 3)), digest(class_key=None),
                   digest(sampler_options={"eta": 1.0}), digest(value_range=(-1.0, 2.0))]  # fmt: skip
        assert len(set(digests)) == len(digests)

    def test_paired_seeds(self):
        assert sample_seeds(3, 5)[:2] == sample_seeds(3, 2)
        assert len(set(sample_seeds(0, 500)) | set(sample_seeds(1, 500))) == 1000

    def test_function_of_labels_and_seeds(self):
        def generate(labels, seeds):
            noise = [torch.rand(3, 2, 2, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
            images = torch.stack(noise) * 2 - 1
            images[labels == 1] = float("nan")
            return images

        source = GeneratorSource(generate, [0, 1, 0])
        images = source.load(range(3))
        assert images[1] == BadImage("NaN or infinite pixels")
        assert images[0].shape == (2, 2, 3)
        np.testing.assert_array_equal(source.load([2])[0], images[2])

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"sampler_options": {"s_churn": 1.0}}, "s_churn draws from torch's global generator"),
            ({"sampler_options": {"noise_sampler": None}}, "noise_sampler is made from"),
            ({"shape": (4, 4)}, r"shape must be \(C, H, W\)"),
            ({"sigmas": torch.tensor([1.0, 2.0])}, "sigmas must decrease"),
            ({"labels": []}, "labels is empty"),
        ],
    )
    def test_bad_samplers(self, change, message):
        options = {"sigmas": self.sigmas, "labels": [0], "shape": (1, 4, 4)} | change
        with pytest.raises(ValueError, match=message):
            SamplerSource(Denoiser(), print, **options)

    def test_wrong_output(self):
        source = GeneratorSource(lambda labels, seeds: torch.zeros(len(seeds), 4, 8, 8), [0, 0])
        with pytest.raises(ValueError, match=r"must give \(2, C, H, W\) images .*; got \(2, 4, 8, 8\)"):
            source.load([0, 1])
