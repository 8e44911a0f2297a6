"""A diffusers network as a k-diffusion denoiser, against diffusers' own schedulers and k-diffusion's own wrappers."""

from types import SimpleNamespace

import diffusers
import pytest
import torch

import kdist
from kdist.adapters.diffusers import DiffusersDenoiser, scheduler_sigmas, training_sigmas
from kdist.compat import import_k_diffusion
from kdist.solvers import SOLVERS, sample

K = import_k_diffusion()


@pytest.fixture(scope="module")
def tokens():
    return torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1))


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def run_scheduler(unet, scheduler, x, tokens, steps):
    """What a diffusers pipeline does, without guidance; ``x`` has the scheduler's initial standard deviation."""
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        out = unet(scheduler.scale_model_input(x, t), t, encoder_hidden_states=tokens).sample
        x = scheduler.step(out, t, x).prev_sample
    return x


@pytest.mark.parametrize(
    ("name", "solver", "prediction_type"),
    [
        ("Euler", "euler", "epsilon"),
        ("Euler", "euler", "v_prediction"),
        ("Euler", "euler", "sample"),
        ("Heun", "heun", "epsilon"),
        ("Heun", "heun", "v_prediction"),
    ],
)
def test_same_run_as_the_scheduler(unet, tokens, name, solver, prediction_type):
    scheduler = getattr(diffusers, f"{name}DiscreteScheduler")(
        prediction_type=prediction_type, timestep_spacing="leading"
    )
    sigmas = scheduler_sigmas(scheduler, 6)
    x = noise(2, 4, 8, 8) * sigmas[0]
    theirs = run_scheduler(unet, scheduler, x, tokens, 6)
    with torch.no_grad():
        ours = sample(
            solver, DiffusersDenoiser(unet, scheduler), x, sigmas, extra_args={"encoder_hidden_states": tokens}
        )
    # two float32 implementations; the latents start at 25
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)


def test_same_run_as_ddim(unet, tokens):
    """DDIM is Euler on the variance-exploding path (Karras et al. 2022): latents differ by sqrt(sigma^2 + 1)."""
    scheduler = diffusers.DDIMScheduler(clip_sample=False, set_alpha_to_one=True)
    sigmas = scheduler_sigmas(scheduler, 8)
    x = noise(2, 4, 8, 8) * sigmas[0]
    theirs = run_scheduler(unet, scheduler, x / (sigmas[0] ** 2 + 1).sqrt(), tokens, 8)
    with torch.no_grad():
        ours = sample(
            "euler", DiffusersDenoiser(unet, scheduler), x, sigmas, extra_args={"encoder_hidden_states": tokens}
        )
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)  # as above


@pytest.mark.parametrize(
    ("prediction_type", "wrapper"),
    [("epsilon", "DiscreteEpsDDPMDenoiser"), ("v_prediction", "DiscreteVDDPMDenoiser")],
)
def test_same_function_as_k_diffusions_wrapper(unet, tokens, prediction_type, wrapper):
    """At fractional timesteps too, between the trained levels."""
    scheduler = diffusers.DDPMScheduler(beta_schedule="scaled_linear", prediction_type=prediction_type)
    ours = DiffusersDenoiser(unet, scheduler)
    theirs = getattr(K.external, wrapper)(
        lambda x, t, **args: unet(x, t, **args).sample, scheduler.alphas_cumprod, quantize=False
    )
    sigma = torch.tensor([0.123, 17.3])
    x = noise(2, 4, 8, 8) * sigma.view(-1, 1, 1, 1)
    args = {"encoder_hidden_states": tokens}
    with torch.no_grad():
        torch.testing.assert_close(ours(x, sigma, **args), theirs(x, sigma, **args), rtol=1e-4, atol=1e-4)  # float32
    torch.testing.assert_close(ours.sigma_to_t(sigma), theirs.sigma_to_t(sigma), rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(ours.get_sigmas(7), theirs.get_sigmas(7), rtol=1e-5, atol=0)


def test_exact_for_one_gaussian():
    """Data N(0, c): E[x0 | x] = c x / (c + sigma^2), with the network's exact answer in each parametrisation."""
    variance = 0.3
    scheduler = diffusers.DDPMScheduler()
    sigma = torch.tensor([0.05, 1.0, 30.0])
    x = noise(3, 4, 2, 2) * (variance + sigma.view(-1, 1, 1, 1) ** 2).sqrt()
    level = sigma.view(-1, 1, 1, 1)
    expected = x * variance / (variance + level**2)

    def network(kind):
        def forward(z, t, return_dict):
            s = denoiser.t_to_sigma(t).view(-1, 1, 1, 1)
            ve = z * (s**2 + 1).sqrt()
            x0 = ve * variance / (variance + s**2)
            eps = (ve - x0) / s
            return ({"epsilon": eps, "sample": x0, "v_prediction": (eps - s * x0) / (s**2 + 1).sqrt()}[kind],)

        return forward

    for kind in ("epsilon", "v_prediction", "sample"):
        denoiser = DiffusersDenoiser(network(kind), scheduler, prediction_type=kind)
        # float32, and x - sigma * eps cancels at sigma = 30
        torch.testing.assert_close(denoiser(x, sigma), expected, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("kind", ["v_prediction", "sample", "epsilon"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("level", [0.5, 20.0, 300.0, 1000.0, 4096.0])
def test_half_latents_get_the_float32_result(kind, dtype, level):
    """Zero terminal SNR: at sigma 4096, sigma**2 is no float16. The network here is exact in every precision: it gives
    back numbers that half precision holds."""
    scheduler = diffusers.DDIMScheduler(rescale_betas_zero_snr=True, prediction_type=kind)
    out = torch.tensor([0.5, -0.25, 1.5, 0.0]).view(1, 4, 1, 1).expand(2, 4, 2, 2)
    seen = []

    def network(z, t, return_dict):
        seen.append(z)
        return (out.to(z.dtype),)

    sigma = torch.full((2,), level)
    x = (noise(2, 4, 2, 2) * level).to(dtype)
    denoiser = DiffusersDenoiser(network, scheduler)
    half, full = denoiser(x, sigma.to(dtype)), denoiser(x.float(), sigma.to(dtype).float())
    assert half.dtype == dtype
    assert torch.equal(half, full.to(dtype))  # one rounding, of the result
    assert half.abs().max() > 0
    assert torch.equal(seen[0], seen[1].to(dtype))
    assert seen[0].abs().max() > 0.1  # the network sees about unit variance
    guided = kdist.guide(
        DiffusersDenoiser(lambda z, t, return_dict, c: (z,), scheduler), 2.0, uncond={"c": 0.0}, check_finite=True
    )
    assert guided(x, sigma.to(dtype), c=torch.ones(2)).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_trained_levels_rounded_to_half_are_in_range(dtype):
    for scheduler in (
        diffusers.DDPMScheduler(),
        diffusers.DDPMScheduler(beta_schedule="scaled_linear", beta_end=0.012),
    ):
        denoiser = DiffusersDenoiser(lambda z, t, return_dict: (z,), scheduler)
        for level in (denoiser.sigma_min, denoiser.sigma_max):
            denoiser(noise(1, 4, 2, 2).to(dtype), torch.tensor([level]).to(dtype))
        with pytest.raises(ValueError, match="outside the scheduler's range"):
            denoiser(noise(1, 4, 2, 2).to(dtype), torch.tensor([torch.nan]).to(dtype))


def test_levels():
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=10)
    sigmas = training_sigmas(scheduler)
    alphas = scheduler.alphas_cumprod.double()
    assert torch.equal(sigmas, ((1 - alphas) / alphas).sqrt())
    denoiser = DiffusersDenoiser(None, scheduler)
    t = torch.tensor([0.0, 0.5, 3.25, 9.0])
    torch.testing.assert_close(denoiser.sigma_to_t(denoiser.t_to_sigma(t)), t, rtol=0, atol=1e-4)  # float32
    assert (denoiser.sigma_min, denoiser.sigma_max) == (
        pytest.approx(float(sigmas[0])),
        pytest.approx(float(sigmas[-1])),
    )


def test_levels_stay_exact_in_a_half_precision_module():
    denoiser = DiffusersDenoiser(None, diffusers.DDPMScheduler())
    exact = denoiser.sigma_to_t(torch.tensor([1.234]))
    denoiser.half().to("cpu")
    assert torch.equal(denoiser.sigma_to_t(torch.tensor([1.234])), exact)


def test_zero_terminal_snr_stays_finite():
    """There abar ends at 0, an infinite sigma; diffusers' Euler scheduler takes 4096 for it, and so does this."""
    scheduler = diffusers.DDIMScheduler(rescale_betas_zero_snr=True, prediction_type="v_prediction")
    assert float(training_sigmas(scheduler)[-1]) == pytest.approx(4096, rel=1e-6)


def test_scheduler_is_left_alone_and_levels_are_those_of_its_run():
    scheduler = diffusers.EulerAncestralDiscreteScheduler()
    scheduler.set_timesteps(3)
    before = scheduler.sigmas.clone()
    levels = scheduler_sigmas(scheduler, 7)
    assert torch.equal(scheduler.sigmas, before)
    scheduler.set_timesteps(7)
    assert torch.equal(levels, scheduler.sigmas)
    for name in ("HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "PNDMScheduler", "DDIMScheduler"):
        levels = scheduler_sigmas(getattr(diffusers, name)(), 7)
        assert (levels.diff() < 0).all()
        assert levels[-1] == 0


@pytest.mark.filterwarnings("ignore:Should have t:UserWarning")  # torchsde, about its own rounding
@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_under_a_window(unet, tokens, solver):
    """Runs, stays finite, and the calls are as predicted where they can be."""
    denoiser = DiffusersDenoiser(unet, diffusers.DDPMScheduler())
    schedule = kdist.NegativeWindow(3.0, sigma_lo=0.5, sigma_hi=2.0)
    guided = kdist.guide(denoiser, schedule, uncond={"encoder_hidden_states": torch.zeros(1, 5, 8)})
    # a level below the lowest trained one is not asked: dpm_2 and the SDE solvers step between the levels given
    sigmas = torch.cat([denoiser.get_sigmas(4)[:-1], torch.zeros(1)])
    torch.manual_seed(0)
    with torch.no_grad():
        latents = sample(
            solver, guided, noise(2, 4, 8, 8) * sigmas[0], sigmas, extra_args={"encoder_hidden_states": tokens}
        )
    assert latents.isfinite().all()
    if solver != "dpm_adaptive":
        assert guided.nfe == schedule.nfe(sigmas, solver)


def test_prompts_of_different_lengths_are_two_calls(unet, tokens):
    """They cannot share a batch; the result is that of two separate calls."""
    denoiser = DiffusersDenoiser(unet, diffusers.DDPMScheduler())
    longer = noise(2, 9, 8)
    guided = kdist.guide(denoiser, 3.0, uncond={"encoder_hidden_states": longer})
    x, sigma = noise(2, 4, 8, 8), torch.tensor([1.0, 2.0])
    with torch.no_grad():
        cond, uncond = (denoiser(x, sigma, encoder_hidden_states=e) for e in (tokens, longer))
        torch.testing.assert_close(guided(x, sigma, encoder_hidden_states=tokens), uncond + 3 * (cond - uncond))


@pytest.mark.parametrize("kind", ["v_prediction", "sample"])
def test_zero_snr_levels_in_half_precision(kind):
    """sigma^2 is infinite in float16 from 256 on; the result is the float32 one to half's rounding (2^-11)."""
    scheduler = diffusers.DDPMScheduler(rescale_betas_zero_snr=True, prediction_type=kind)

    def network(z, t, return_dict):
        return (torch.tanh(z),)

    x, sigma = noise(3, 4, 8, 8), torch.tensor([300.0, 1024.0, 4096.0])
    x = (x * sigma.view(-1, 1, 1, 1)).half()
    denoiser = DiffusersDenoiser(network, scheduler)
    half, wide = denoiser(x, sigma.half()), denoiser(x.float(), sigma)
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), wide, rtol=2e-3, atol=2e-3)
    assert wide.abs().mean() > 0.01


def test_half_precision_network(unet, tokens):
    half = DiffusersDenoiser(SimpleNamespace(dtype=torch.bfloat16, config={}, __call__=None), diffusers.DDPMScheduler())
    seen = []

    def network(z, t, return_dict, **_):
        seen.append((z.dtype, t.dtype))
        return (z,)

    network.dtype, network.config = torch.bfloat16, {}
    half.inner_model = network
    out = half(noise(2, 4, 8, 8), torch.tensor([1.0, 2.0]))
    assert seen == [(torch.bfloat16, torch.float32)]
    assert out.dtype == torch.float32


def test_learned_variance_is_dropped():
    x = noise(1, 4, 2, 2)
    both = DiffusersDenoiser(lambda z, t, return_dict: (torch.cat([z, z * 9], 1),), diffusers.DDPMScheduler())
    mean = DiffusersDenoiser(lambda z, t, return_dict: (z,), diffusers.DDPMScheduler())
    assert torch.equal(both(x, torch.ones(1)), mean(x, torch.ones(1)))


def test_bad_inputs(unet, tokens):
    scheduler = diffusers.DDPMScheduler()
    with pytest.raises(ValueError, match="prediction_type must be one of"):
        DiffusersDenoiser(unet, scheduler, prediction_type="noise")
    with pytest.raises(ValueError, match="alphas_cumprod"):
        DiffusersDenoiser(unet, diffusers.FlowMatchEulerDiscreteScheduler(), prediction_type="epsilon")
    denoiser = DiffusersDenoiser(unet, scheduler)
    x, sigma = noise(2, 4, 8, 8), torch.ones(2)
    with pytest.raises(ValueError, match="encoder_hidden_states has 1 rows, the batch has 2"):
        denoiser(x, sigma, encoder_hidden_states=tokens[:1])
    for level in (1e-4, 1e3):
        with pytest.raises(ValueError, match="outside the scheduler's range"):
            denoiser(x, torch.tensor([1.0, level]), encoder_hidden_states=tokens)
    with torch.no_grad():
        unchecked = DiffusersDenoiser(unet, scheduler, check_range=False)
        assert unchecked(x, torch.tensor([1.0, 1e3]), encoder_hidden_states=tokens).isfinite().all()
    with pytest.raises(ValueError, match="9 channels, the network takes 4"):
        denoiser(noise(2, 9, 8, 8), sigma, encoder_hidden_states=tokens)
