"""Tracing: what it records, the log-volume ledger against the Gaussian closed form, and that it changes nothing."""

import math

import pytest
import torch

import kdist
from kdist.rules import projected
from kdist.solvers import sample
from kdist.theory import GaussianMixtureDenoiser

UNCOND = {"class_cond": 1}
CLASS_VAR = torch.tensor([0.05, 0.3, 0.8], dtype=torch.float64)  # c, with u = 1: the pairs of theory's reference table
CLASS_MEAN = torch.tensor([1.0, 0.5, -0.7], dtype=torch.float64)


class GaussianPair(torch.nn.Module):
    """Exact denoisers of N(mean, CLASS_VAR) (class 0) and N(0, 1) (class 1): D = (v x + t m) / (v + t)."""

    def __init__(self, in_place=False):
        super().__init__()
        self.in_place = in_place
        self.bound = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))

    def forward(self, x, sigma, class_cond):
        if self.in_place:  # as k-diffusion's transformer does, which forward-mode differentiation refuses
            x = x.clone()
            with torch.no_grad():
                self.bound.mul_(x.flatten()[0] * 0 + 1)
        conditional = (class_cond == 0)[:, None]
        var = torch.where(conditional, CLASS_VAR, 1.0)
        mean = torch.where(conditional, CLASS_MEAN, 0.0)
        t = sigma[:, None].double() ** 2
        return (var * x + t * mean) / (var + t)


def noise(rows=4, sigma=80.0):
    return torch.randn(rows, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * sigma


def run(guided, sigmas, solver="euler", rows=4, **options):
    classes = {"class_cond": torch.zeros(rows, dtype=torch.int64)}
    return sample(solver, guided, noise(rows, float(sigmas[0])), sigmas, extra_args=classes, **options)


def log_volume(schedule, sigmas):
    """Half the sum over directions of - int w [1/(c + t) - 1/(u + t)] dt (design notes, G1), on a fine grid."""
    sigma = torch.logspace(*(math.log10(s) for s in (float(sigmas[0]), float(sigmas[-1]))), 20_001).double()
    t, w = sigma**2, schedule(sigma) - 1
    rate = (w[:, None] * (1 / (CLASS_VAR + t[:, None]) - 1 / (1 + t[:, None]))).sum(1)
    return -0.5 * torch.trapezoid(rate, t).neg()


def levels(count, high=80.0, low=0.002):
    return torch.logspace(math.log10(high), math.log10(low), count, dtype=torch.float64)


@pytest.mark.parametrize("solver", ["euler", "heun", "dpm_2", "dpmpp_2m"])
@pytest.mark.parametrize("scale", [3.0, 0.5])
def test_ledger_is_the_closed_form_on_a_gaussian(solver, scale):
    """The Jacobian is diagonal, so Hutchinson's estimate is exact with random signs; what is left is the quadrature:
    second order in a step of 0.13 in log sigma, below 0.2 % relative."""
    guided = kdist.guide(GaussianPair(), scale, uncond=UNCOND)
    sigmas = levels(80)
    with guided.trace(log_volume=True) as trace:
        run(guided, sigmas, solver)
    # constant weight: half the sum of w log(...) at both ends, from integrating G1 in closed form
    t_high, t_low = float(sigmas[0]) ** 2, float(sigmas[-1]) ** 2

    def antiderivative(t):
        return torch.log((CLASS_VAR + t) / (1 + t)).sum()

    expected = -0.5 * (scale - 1) * (antiderivative(t_high) - antiderivative(t_low))
    torch.testing.assert_close(trace.log_volume(), expected.expand(4), rtol=2e-3, atol=0)


def test_ledger_is_the_volume_that_samples_lose():
    """The sampler's map is affine and diagonal here: starts along the axes, less the image of 0, give its determinant,
    and guidance's part of it is the quotient by the unguided one. Heun is second order, 0.6 % at 100
    steps and a quarter of that here."""
    start = torch.cat([torch.eye(3), torch.zeros(1, 3)]).double() * 80
    classes = {"class_cond": torch.zeros(4, dtype=torch.int64)}
    determinant = {}
    for scale in (1.0, 3.0):
        guided = kdist.guide(GaussianPair(), scale, uncond=UNCOND)
        with guided.trace(log_volume=scale != 1) as trace:
            ends = sample("heun", guided, start, levels(200), extra_args=classes)
        determinant[scale] = torch.diagonal(ends[:3] - ends[3]).log().sum()
    lost = determinant[3.0] - determinant[1.0]
    assert lost < -3  # theory: variances c (c/u)**2 in place of c, so log c summed, -4.4, but for the ends of the range
    torch.testing.assert_close(trace.log_volume(), lost.expand(4), rtol=2e-3, atol=0)


def test_a_window_gives_volume_back():
    """Jumps between two visited levels make the quadrature first order: half a step, 0.02 in log sigma, at each of two
    edges, times a jump of the rate of about 3, in a total of about 3."""
    window = kdist.NegativeWindow(4.0, 0.2, 1.0)
    guided = kdist.guide(GaussianPair(), window, uncond=UNCOND)
    sigmas = levels(250)
    with guided.trace(log_volume=True) as trace:
        run(guided, sigmas)
    expected = log_volume(window, sigmas)
    torch.testing.assert_close(trace.log_volume(), expected.expand(4), rtol=0.04, atol=0)
    inside = (trace.sigma > 0.2) & (trace.sigma <= 1)
    assert (trace.divergence[inside] > 0).all()  # negative guidance widens
    assert (trace.divergence[trace.sigma > 1] < 0).all()


def test_central_differences_where_jvp_does_not_go():
    """Same numbers; float64 steps of eps**(1/4) sigma on an affine model leave rounding only."""
    sigmas = levels(40)
    ledgers = []
    for in_place in (False, True):
        guided = kdist.guide(GaussianPair(in_place), 3.0, uncond=UNCOND)
        with guided.trace(log_volume=True) as trace:
            run(guided, sigmas)
        assert trace._use_jvp is not in_place
        ledgers.append(trace.log_volume())
    torch.testing.assert_close(*ledgers, rtol=1e-6, atol=0)


def test_k_diffusions_transformer_takes_central_differences():
    """In float32 the two estimates of a smooth network's derivative agree to about eps**(1/4) * a few = 2 %."""
    config = {
        "model": {
            "type": "image_transformer_v1", "input_channels": 1, "input_size": [8, 8], "patch_size": [4, 4],
            "width": 64, "depth": 1, "d_ff": 64, "sigma_data": 0.75, "sigma_min": 0.02, "sigma_max": 80.0,
            "dropout_rate": 0.0,
        },
        "dataset": {"type": "none", "num_classes": 10, "cond_dropout_rate": 0.1},
    }  # fmt: skip
    from kdist.checkpoints import make_denoiser

    torch.manual_seed(0)
    model = make_denoiser(config).eval().requires_grad_(False)
    for parameter in model.parameters():  # the untrained network's last layer is zero: nothing to differentiate
        parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.2)
    guided = kdist.guide(model, 3.0, uncond={"class_cond": 10})
    x, y = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([1, 2])
    with guided.trace(log_volume=True, probes=2) as trace, torch.no_grad():
        guided(x, torch.ones(2), class_cond=y)
    assert not trace._use_jvp

    # in float64 a central difference is good to 1e-7
    exact = model.double()
    generator, expected = torch.Generator().manual_seed(0), 0.0
    for _ in range(2):
        probe = (torch.randint(0, 2, x.shape, generator=generator) * 2 - 1).double()
        ahead, behind = (
            2.0 * (exact(x_, one, class_cond=y) - exact(x_, one, class_cond=torch.full_like(y, 10)))
            for x_, one in ((x.double() + sign * 1e-4 * probe, torch.ones(2).double()) for sign in (1, -1))
        )
        expected = expected + (probe * (ahead - behind)).flatten(1).sum(1) / 2e-4 / 2
    torch.testing.assert_close(trace.divergence[0], expected, rtol=0.02, atol=0.02 * expected.abs().max().item())


def test_scale_norm_and_share():
    window = kdist.NegativeWindow(4.0, 0.2, 1.0, after=1.0)
    model = GaussianPair()
    guided = kdist.guide(model, window, uncond=UNCOND)
    x = noise(3, 1.0)
    sigma = torch.tensor([5.0, 0.5, 0.1], dtype=torch.float64)  # scales 4, 0 and 1 in one batch
    y = torch.zeros(3, dtype=torch.int64)
    with guided.trace() as trace:
        denoised = guided(x, sigma, class_cond=y)
        guided(x, sigma.flip(0), class_cond=y)
    cond, uncond = model(x, sigma, y), model(x, sigma, y + 1)
    weight = torch.tensor([3.0, -1.0, 0.0], dtype=torch.float64)
    expected = (weight[:, None] * (cond - uncond)).norm(dim=1)
    assert len(trace) == 2
    assert trace.scale.tolist() == [[4, 0, 1], [1, 0, 4]]
    assert torch.equal(trace.sigma[1], sigma.flip(0))
    torch.testing.assert_close(trace.norm[0], expected)
    torch.testing.assert_close(trace.share[0], expected / (x - denoised).norm(dim=1))


@pytest.mark.parametrize("shape", [(2,), (2, 3), (2, 1, 4, 4), (0, 3)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_any_shape_and_dtype(shape, dtype):
    """tanh(x), twice for the class: with scale 3 the guidance term is 2 tanh(x), its divergence 2 / cosh(1)^2 each."""

    def model(x, sigma, class_cond):
        return torch.tanh(x) * (2 - class_cond).view(-1, *[1] * (x.ndim - 1)).to(x.dtype)

    guided = kdist.guide(model, 3.0, uncond=UNCOND)
    x, y = torch.ones(shape, dtype=dtype), torch.zeros(shape[0], dtype=torch.int64)
    with guided.trace(log_volume=True) as trace:
        guided(x, torch.ones(shape[0], dtype=dtype), class_cond=y)
        torch.func.jvp(lambda x: guided(x, torch.ones(shape[0], dtype=dtype), class_cond=y), (x,), (x,))
    assert len(trace) == 1  # calls inside a transform have no values to record
    size = x[:1].numel()
    expected = torch.full((1, shape[0]), 2 * size / math.cosh(1) ** 2, dtype=torch.float64)
    torch.testing.assert_close(trace.divergence, expected, rtol=20 * torch.finfo(dtype).eps, atol=0)
    norm = torch.full((1, shape[0]), 2 * math.tanh(1) * math.sqrt(size), dtype=torch.float64)
    torch.testing.assert_close(trace.norm, norm, rtol=20 * torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("rule", [None, projected])
@pytest.mark.parametrize("solver", ["euler_ancestral", "heun", "dpmpp_sde"])
def test_tracing_changes_nothing_and_leaves_nothing(solver, rule):
    guided = kdist.guide(GaussianPair(), kdist.NegativeWindow(4.0, 0.2, 1.0, after=1.0), uncond=UNCOND, rule=rule)
    before = set(guided.__dict__)
    results, counts, states = [], [], []
    for traced in (False, True):
        torch.manual_seed(3)
        guided.reset_nfe()
        options = {"noise_sampler": lambda *_: torch.randn(4, 3).double()} if solver != "heun" else {}
        if traced:
            with guided.trace(log_volume=True, probes=3):
                results.append(run(guided, levels(12), solver, **options))
        else:
            results.append(run(guided, levels(12), solver, **options))
        counts.append(guided.nfe)
        states.append(torch.get_rng_state())
    assert torch.equal(*results)
    assert counts[0] == counts[1]
    assert torch.equal(*states)
    assert guided._traces == []
    assert set(guided.__dict__) == before


def test_nothing_is_left_after_an_error_either():
    guided = kdist.guide(GaussianPair(), 3.0, uncond=UNCOND)
    with pytest.raises(RuntimeError, match="stop"), guided.trace():
        raise RuntimeError("stop")
    assert guided._traces == []


def test_two_traces_at_once():
    guided = kdist.guide(GaussianPair(), 3.0, uncond=UNCOND)
    with guided.trace() as outer:
        run(guided, levels(5))
        with guided.trace() as inner:
            run(guided, levels(5))
    assert (len(outer), len(inner)) == (8, 4)
    assert torch.equal(outer.norm[4:], inner.norm)


def test_the_estimate_is_unbiased_and_narrows():
    """Not diagonal: J = A has trace 3 and off-diagonal entries; 4 standard errors of the mean over 60 seeds."""
    matrix = torch.tensor([[1.0, 2.0], [0.5, 2.0]], dtype=torch.float64)

    def model(x, sigma, class_cond):
        return torch.where((class_cond == 0)[:, None], x @ matrix.T, torch.zeros_like(x))

    guided = kdist.guide(model, 2.0, uncond=UNCOND)  # the guidance term is A x
    spread = {}
    for probes in (1, 16):
        estimates = []
        for seed in range(60):
            with guided.trace(log_volume=True, probes=probes, seed=seed) as trace:
                guided(torch.ones(1, 2).double(), torch.ones(1), class_cond=torch.zeros(1, dtype=torch.int64))
            estimates.append(float(trace.divergence))
        values = torch.tensor(estimates)
        assert abs(values.mean() - 3) < 4 * values.std() / math.sqrt(60)
        spread[probes] = float(values.std())
    # 1 / sqrt(16); 60 draws tell each standard deviation within 9 %, so 4 standard errors of the ratio are 50 %
    assert spread[16] / spread[1] == pytest.approx(0.25, rel=0.5)


def half_a_picture(figure, path, **options):
    path.write_bytes(b"half")
    raise OSError(28, "No space left on device")


def test_pictures(tmp_path, monkeypatch):
    guided = kdist.guide(GaussianPair(), kdist.NegativeWindow(4.0, 0.2, 1.0), uncond=UNCOND)
    with guided.trace(log_volume=True) as trace:
        run(guided, torch.cat([levels(10), torch.zeros(1)]), callback=trace.plot_callback(tmp_path / "t.png", every=6))
    assert (tmp_path / "t.png").stat().st_size > 5000
    figure = trace.plot()
    assert [ax.get_ylabel() for ax in figure.axes] == ["guidance scale", "guidance / update", "log volume (nats)"]
    whole = (tmp_path / "t.png").read_bytes()
    monkeypatch.setattr(type(figure), "savefig", half_a_picture)
    with pytest.raises(OSError, match="no space left for"):  # the picture of the steps before stays
        trace.plot_callback(tmp_path / "t.png")({"i": 0})
    assert (tmp_path / "t.png").read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == ["t.png"]
    with guided.trace() as short:
        run(guided, levels(10))
    assert len(short.plot().axes) == 2


def test_a_picture_every_few_steps(tmp_path):
    guided = kdist.guide(GaussianPair(), 3.0, uncond=UNCOND)
    with guided.trace() as trace:
        draw = trace.plot_callback(tmp_path / "t.png", every=3)
        draw({"i": 0})
        assert not (tmp_path / "t.png").exists()  # nothing was traced yet
        drawn = []
        for step, level in enumerate(levels(7)):
            guided(torch.zeros(2, 3), level.expand(2), class_cond=torch.zeros(2, dtype=torch.int64))
            draw({"i": step})
            drawn += [step] * (tmp_path / "t.png").exists()
            (tmp_path / "t.png").unlink(missing_ok=True)
    assert drawn == [0, 3, 6]
    with pytest.raises(ValueError, match="every must be at least 1; got 0"):
        trace.plot_callback(tmp_path / "t.png", every=0)


def test_bad_input():
    guided = kdist.guide(GaussianPair(), 3.0, uncond=UNCOND)
    with guided.trace() as trace:
        pass
    with pytest.raises(ValueError, match="nothing was traced"):
        _ = trace.norm
    with guided.trace() as trace:
        for rows in (2, 3):
            run(guided, levels(3), rows=rows)
    with pytest.raises(ValueError, match="batch size changed"):
        _ = trace.norm
    with pytest.raises(ValueError, match="log_volume=True"):
        _ = trace.divergence
    with pytest.raises(ValueError, match="probes must be at least 1"), guided.trace(log_volume=True, probes=0):
        pass
    with pytest.raises(TypeError, match="volume"), guided.trace(volume=True):
        pass
    with pytest.raises(ValueError, match="every must be at least 1"):
        trace.plot_callback("x.png", every=0)


# Class information: I(sigma) = integral from sigma up of E |cond - uncond|^2 / s^2 d log s

MIXTURE = GaussianMixtureDenoiser([[0.0, 0.0], [1.5, 0.0], [0.0, 4.0]], [0.1, 0.3, 0.5], [0.5, 0.3, 0.2])
FINE = levels(240, high=200.0, low=0.002)


def exact_information(sigma, rows=20_000):
    """E log p(c | x) / p(c) at ``sigma``, by samples of the mixture: mean and standard error."""
    generator = torch.Generator().manual_seed(3)
    classes = torch.multinomial(MIXTURE.log_weights.exp(), rows, replacement=True, generator=generator)
    x = MIXTURE.sample(classes, sigma=sigma, generator=generator)
    gain = torch.stack([MIXTURE.log_prob(x, sigma, c) for c in range(3)], 1).gather(1, classes[:, None])[:, 0]
    gain = gain - MIXTURE.log_prob(x, sigma, 3)
    return float(gain.mean()), float(gain.std()) / math.sqrt(rows)


def test_information_of_noised_data_is_the_mutual_information():
    """I-MMSE against the posterior, without a sampler: the same noise at all levels."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.multinomial(MIXTURE.log_weights.exp(), 4000, replacement=True, generator=generator)
    clean = MIXTURE.sample(classes, generator=generator)
    noise = torch.randn(clean.shape, generator=generator, dtype=clean.dtype)
    guided = kdist.guide(MIXTURE, 1.0, uncond={"class_cond": 3})
    with guided.trace(information=True) as trace:
        for sigma in FINE:
            guided(clean + sigma * noise, sigma.expand(4000), class_cond=classes)
    for sigma in (0.02, 0.5, 1.0, 3.0):
        spent = trace.information(sigma)
        exact, error = exact_information(sigma)
        # 4 standard errors of both, and a step of 0.05 in log sigma where the integral is cut
        room = 4 * math.hypot(error, float(spent.std()) / math.sqrt(4000)) + 0.005
        assert abs(float(spent.mean()) - exact) < room
    priors = MIXTURE.log_weights
    assert trace.information().mean() < -(priors.exp() * priors).sum() + room  # the class's entropy


@pytest.mark.parametrize("solver", ["heun", "dpmpp_2m"])
def test_information_of_an_unguided_run_keeps_the_bound_and_a_foreign_whole_breaks_it(solver):
    """At scale 1 samples are distributed as noised data; the sum is more if the unconditional law is not theirs."""
    classes = torch.multinomial(
        MIXTURE.log_weights.exp(), 2000, replacement=True, generator=torch.Generator().manual_seed(0)
    )
    sigmas = levels(80, high=200.0, low=0.01)
    start = torch.randn(2000, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * sigmas[0]
    entropy = -float((MIXTURE.log_weights.exp() * MIXTURE.log_weights).sum())
    spent = {}
    other = GaussianMixtureDenoiser([[3.0, 3.0]], 9.0)
    for name, weak in (("consistent", None), ("other law", lambda x, sigma, class_cond: other(x, sigma, 0))):
        guided = kdist.guide(MIXTURE, 1.0, uncond={"class_cond": 3}, weak_model=weak)
        with guided.trace(information=True) as trace:
            sample(solver, guided, start, sigmas, extra_args={"class_cond": classes})
        spent[name] = trace.information()
        assert trace.gap.shape == (len(trace), 2000)
    exact, error = exact_information(0.01)
    room = 4 * math.hypot(error, float(spent["consistent"].std()) / math.sqrt(2000)) + 0.01  # of 80 steps
    assert abs(float(spent["consistent"].mean()) - exact) < room
    assert spent["consistent"].mean() < entropy + room
    assert spent["other law"].mean() > 1.5 * entropy


def test_information_is_counted_down_to_a_level_and_never_at_sigma_zero():
    guided = kdist.guide(GaussianPair(), 2.0, uncond=UNCOND)
    with guided.trace(information=True) as trace:
        run(guided, levels(20))
        before = guided.nfe
        guided(noise(4, 1.0), torch.zeros(4), class_cond=torch.zeros(4, dtype=torch.int64))
    assert guided.nfe == before + 2  # the comparison is not counted
    assert (trace.information(100.0) == 0).all()
    assert (trace.information(1.0) < trace.information(0.1)).all()
    assert trace.information().isfinite().all()
    top, low = trace.sigma[:, 0].argmax(), trace.sigma[:, 0].argsort(descending=True)[1]
    rates = [(trace.gap[k] / trace.sigma[k]).square() for k in (top, low)]
    step = (trace.sigma[top, 0] / trace.sigma[low, 0]).log()
    torch.testing.assert_close(trace.information(float(trace.sigma[low, 0])), step * (rates[0] + rates[1]) / 2)
    with guided.trace() as plain:
        run(guided, levels(5))
    with pytest.raises(ValueError, match="information=True"):
        plain.information()
