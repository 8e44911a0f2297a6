"""Every k-diffusion solver under one call, and the guidance contract on each of them."""

import math

import pytest
import torch

import kdist
from kdist import digits
from kdist.compat import import_k_diffusion
from kdist.solvers import SOLVERS, called_sigmas, get_solver, karras_sigmas, sample

K = import_k_diffusion()
STOCHASTIC = {s for s in SOLVERS if "ancestral" in s or "sde" in s}
# dpm_adaptive chooses its steps from the error of the whole batch, so some things cannot be said of it
FIXED_STEPS = [s for s in SOLVERS if s != "dpm_adaptive"]
LABELS = torch.tensor([0, 3, 7, 1])
SIGMAS = digits.sigmas(7)


class Recorder(torch.nn.Module):
    """A smooth nonlinear class-conditional denoiser that notes what it was asked."""

    def __init__(self):
        super().__init__()
        self.calls = []  # (sigma, class_cond, x) per call

    def forward(self, x, sigma, class_cond):
        self.calls.append((sigma.clone(), class_cond.clone(), x.clone()))
        pull = torch.sin(class_cond.to(x.dtype) + 1)[:, None]
        return torch.tanh(x / (1 + sigma[:, None]) + pull)


def start(seed=0, rows=4):
    return torch.randn(rows, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * SIGMAS[0]


def run(solver, model, x=None, labels=LABELS, sigmas=SIGMAS, **options):
    x = start() if x is None else x
    if "sde" in solver:  # a Brownian tree's noise depends on the batch; one number per sigma does not
        options.setdefault("noise_sampler", lambda a, b: torch.full_like(x, math.sin(1e3 * float(b))))
    torch.manual_seed(0)
    return sample(solver, model, x, sigmas.double(), extra_args={"class_cond": labels}, **options)


def handwritten_cfg(model, scale):
    def denoise(x, sigma, class_cond):
        both = torch.cat([torch.full_like(class_cond, 10), class_cond])
        uncond, cond = model(torch.cat([x, x]), torch.cat([sigma, sigma]), both).chunk(2)
        return uncond + (cond - uncond) * scale

    return denoise


def test_all_of_k_diffusions_samplers_are_known():
    there = {name.removeprefix("sample_") for name in dir(K.sampling) if name.startswith("sample_")}
    assert there == set(SOLVERS)


@pytest.mark.parametrize("solver", SOLVERS)
def test_constant_scale_equals_handwritten_cfg(solver):
    guided = kdist.guide(Recorder(), 3.0, uncond={"class_cond": 10})
    # float64 and the same operations in the same order: rounding of a few steps only
    torch.testing.assert_close(
        run(solver, guided), run(solver, handwritten_cfg(Recorder(), 3.0)), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_call_gets_the_scale_of_its_own_sigma(solver):
    """The prediction at each call, mid-step and correction calls included, is CFG with schedule(sigma)."""
    schedule = kdist.LinearInVariance(w0=-0.7, omega=0.4, max_scale=5.0)
    model = Recorder()
    guided = kdist.guide(model, schedule, uncond={"class_cond": 10})
    seen = []

    def spy(x, sigma, class_cond):
        denoised = guided(x, sigma, class_cond=class_cond)
        seen.append((x.clone(), sigma.clone(), denoised))
        return denoised

    run(solver, spy)
    for x, sigma, denoised in seen:
        expected = handwritten_cfg(Recorder(), schedule(float(sigma[0])))(x, sigma, LABELS)
        torch.testing.assert_close(denoised, expected, rtol=1e-12, atol=1e-12)  # float64 rounding
    if solver != "dpm_adaptive":
        assert [float(sigma[0]) for _, sigma, _ in seen] == pytest.approx(called_sigmas(solver, SIGMAS), rel=1e-5)


@pytest.mark.parametrize("solver", FIXED_STEPS)
def test_only_needed_passes_run_and_nfe_is_exact(solver):
    schedule = kdist.NegativeWindow(4.0, sigma_lo=0.3, sigma_hi=3.0, inside=0.0, after=1.0)
    model = Recorder()
    guided = kdist.guide(model, schedule, uncond={"class_cond": 10})
    run(solver, guided)
    rows = sum(len(sigma) for sigma, _, _ in model.calls)
    assert guided.nfe == rows / len(LABELS) == schedule.nfe(SIGMAS, solver)
    for sigma, class_cond, _ in model.calls:
        uncond = class_cond == 10
        inside = (sigma > 0.3) & (sigma <= 3.0)
        assert uncond[inside].all()  # scale 0: never a conditional pass
        assert not uncond[sigma <= 0.3].any()  # scale 1: never an unconditional one


@pytest.mark.parametrize("solver", FIXED_STEPS)
@pytest.mark.parametrize("batched", [True, False])
def test_results_do_not_depend_on_batching(solver, batched):
    if solver in STOCHASTIC:  # noise from sigma alone, so that it is the same for every batch
        options = {"noise_sampler": lambda a, b: torch.full((1, 1), math.sin(1e3 * float(b)), dtype=torch.float64)}
    else:
        options = {}
    schedule = kdist.NegativeWindow(4.0, sigma_lo=0.3, sigma_hi=3.0)
    guided = kdist.guide(Recorder(), schedule, uncond={"class_cond": 10}, batched=batched)
    together = run(solver, guided, **options)
    x = start()
    alone = [run(solver, guided, x[i : i + 1], LABELS[i : i + 1], **options) for i in range(len(x))]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-12, atol=1e-12)  # float64 rounding


def test_one_wrapped_model_serves_two_samplers():
    guided = kdist.guide(Recorder(), kdist.LateNegative(3.0, 1.0), uncond={"class_cond": 10})
    first = run("heun", guided)
    run("dpmpp_2m", guided)
    assert torch.equal(run("heun", guided), first)


def test_log_likelihood():
    """Under autograd, against the same with hand-written CFG."""
    x = torch.randn(2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    labels = LABELS[:2]
    guided = kdist.guide(Recorder(), 2.0, uncond={"class_cond": 10})
    results = []
    for model in (guided, handwritten_cfg(Recorder(), 2.0)):
        torch.manual_seed(3)
        ll, info = K.sampling.log_likelihood(model, x, 0.05, 10.0, extra_args={"class_cond": labels})
        results.append(ll)
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-9)  # same adaptive steps, float64 rounding
    assert guided.nfe == 2 * info["fevals"]


def test_unknown_solver_and_option():
    with pytest.raises(ValueError, match="unknown solver 'eulr'; known: euler"):
        get_solver("eulr")
    with pytest.raises(ValueError, match="sample_euler has no option eta; it has s_churn"):
        run("euler", handwritten_cfg(Recorder(), 1.0), eta=1.0)


def test_adaptive_calls_cannot_be_predicted():
    with pytest.raises(ValueError, match="dpm_adaptive chooses its steps"):
        called_sigmas("dpm_adaptive", SIGMAS)


def test_called_sigmas_leaves_the_random_state_alone():
    before = torch.random.get_rng_state()
    called_sigmas("dpmpp_sde", SIGMAS)
    assert torch.equal(before, torch.random.get_rng_state())


def test_karras_levels_are_k_diffusions():
    """And its bad input."""
    for rho in (7.0, 3.0):
        expected = K.sampling.get_sigmas_karras(12, 0.02, 80.0, rho)
        torch.testing.assert_close(karras_sigmas(12, 0.02, 80.0, rho=rho).float(), expected, rtol=1e-5, atol=1e-9)
    assert karras_sigmas(1, 0.02, 80.0).tolist() == pytest.approx([80.0, 0.0])
    for arguments, message in (
        ((0, 0.02, 80.0), "at least 1"),
        ((5, 2.0, 1.0), "below sigma_max"),
        ((5, 0, 1), "positive"),
    ):
        with pytest.raises(ValueError, match=message):
            karras_sigmas(*arguments)


def test_range_solvers_start_at_the_highest_level_and_leave_zeros_out():
    """The two that take a range get the lowest and the highest positive level of the list."""
    seen = []

    def sample_dpm_adaptive(model, x, sigma_min, sigma_max, extra_args=None, callback=None, disable=None):
        seen.append((sigma_min, sigma_max))
        return x

    sample(sample_dpm_adaptive, None, torch.ones(1), torch.tensor([10.0, 2.0, 0.5, 0.0]))
    sample(sample_dpm_adaptive, None, torch.ones(1), torch.tensor([10.0, 2.0, 0.5]))
    assert seen == [(0.5, 10.0)] * 2


@pytest.mark.parametrize("steps", [4, 7, 12])
def test_dpm_fast_makes_one_call_a_step(steps):
    """Its n is the number of network calls; the list has a level more than steps."""
    assert len(called_sigmas("dpm_fast", karras_sigmas(steps, 0.02, 80.0))) == steps
