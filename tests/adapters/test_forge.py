"""Forge: the conditioning modifier in Forge's own sampling function, on a tiny random network; the panel's fields.

With the folder of a checkout (and the packages that it needs), the first part runs; without one it is skipped:

    KDIST_FORGE=path/to/stable-diffusion-webui-forge python -m pytest tests/adapters/test_forge.py
"""

import functools
import os
import sys
from types import SimpleNamespace

import pytest
import torch

import kdist
from kdist.adapters import forge
from kdist.compat import import_k_diffusion, repair_torchvision
from kdist.schedules import InTerms
from kdist.solvers import sample

CHECKOUT = os.environ.get("KDIST_FORGE", "")
in_forge = pytest.mark.skipif(not CHECKOUT, reason="KDIST_FORGE does not name a checkout of Forge")
SIGMAS = torch.tensor([14.0, 6.0, 3.0, 1.5, 0.7, 0.3, 0.1, 0.0])
SCHEDULES = (
    kdist.Interval(4.0, 0.3, 3.0),
    kdist.NegativeWindow(4.0, 0.5, 4.0, inside=0.0, after=1.0),
    kdist.EarlyNegative(3.0, 2.0, sigma_end=0.3),
)


@pytest.fixture(scope="module")
def unet():
    """Forge's UnetPatcher around a tiny network of its own class."""
    repair_torchvision()
    sys.path.insert(0, CHECKOUT)
    arguments, sys.argv = sys.argv, ["forge", "--always-cpu"]
    try:
        from backend.modules.k_prediction import Prediction
        from backend.nn.unet import IntegratedUNet2DConditionModel
        from backend.patcher.unet import UnetPatcher
    finally:
        sys.argv = arguments
    torch.manual_seed(0)
    network = IntegratedUNet2DConditionModel(
        in_channels=4, model_channels=32, out_channels=4, num_res_blocks=[1, 1], channel_mult=[1, 1], num_heads=4,
        use_spatial_transformer=True, transformer_depth=[1, 0], transformer_depth_output=[1, 1, 0, 0],
        transformer_depth_middle=0, context_dim=16,
    ).eval()  # fmt: skip
    for name, parameter in network.named_parameters():
        if "attn2" in name or name.startswith("out."):
            parameter.data = torch.randn(parameter.shape) * (0.3 if "attn2" in name else 0.05)
    network.storage_dtype = network.computation_dtype = torch.float32
    network.load_device = network.offload_device = network.initial_device = torch.device("cpu")
    predictor = Prediction(prediction_type="epsilon", beta_schedule="linear")
    return UnetPatcher.from_model(network, None, None, k_predictor=predictor)


POSITIVE, NEGATIVE = (torch.randn(2, 77, 16, generator=torch.Generator().manual_seed(seed)) * 3 for seed in (1, 2))


class Denoiser:
    """What Forge's CFGDenoiser does with ``sampling_function``, for k-diffusion's solvers."""

    def __init__(self, unet, uncond=NEGATIVE, composition=None, cfg=7.0):
        self.inner_model = SimpleNamespace(inner_model=SimpleNamespace(forge_objects=SimpleNamespace(unet=unet)))
        self.p = SimpleNamespace(seeds=[0])
        self.uncond, self.cfg = uncond, cfg
        self.composition = composition or [[(0, 1.0)], [(1, 1.0)]]
        self.rows, self.uncond_seen = 0, []

    def __call__(self, x, sigma):
        from backend.sampling.sampling_function import sampling_function

        params = SimpleNamespace(x=x, sigma=sigma, text_uncond=self.uncond, text_cond=POSITIVE, image_cond=None)
        denoised, _, uncond = sampling_function(self, params, self.cfg, self.composition)
        self.uncond_seen.append(uncond)
        return denoised


def guided(unet, schedule, **options):
    unet = unet.clone()
    unet.add_conditioning_modifier(forge.conditioning_modifier(schedule, **options))
    return counted(unet)


def counted(unet):
    unet, rows = unet.clone(), []

    def run(apply, args):
        rows.extend(args["cond_or_uncond"])
        return apply(args["input"], args["timestep"], **args["c"])

    unet.set_model_unet_function_wrapper(run)
    return unet, rows


@torch.no_grad()
def run(denoiser, solver="euler"):
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3)) * SIGMAS[0]
    return sample(solver, denoiser, x, SIGMAS)


def reference(unet, schedule, solver="euler", strength=1.0):
    """kdist.guide around the network itself."""
    import_k_diffusion()

    def network(x, sigma, context):
        return unet.model.apply_model(x, sigma, c_crossattn=context)

    own = kdist.guide(network, schedule * strength, uncond={"context": NEGATIVE})
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3)) * SIGMAS[0]
    with torch.no_grad():
        return sample(solver, own, x, SIGMAS, extra_args={"context": POSITIVE}), own.nfe


@in_forge
@pytest.mark.parametrize("solver", ["euler", "heun", "dpmpp_2m"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_scale_of_each_call_in_forge(unet, schedule, solver):
    patched, rows = guided(unet, schedule)
    found = run(Denoiser(patched), solver)
    expected, nfe = reference(unet, schedule, solver)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))  # float32
    assert len(rows) == nfe == schedule.nfe(SIGMAS, solver)


@in_forge
def test_constant_equals_the_cfg_scale_of_forge(unet):
    for scale in (1.0, 5.0):
        patched, rows = guided(unet, kdist.Constant(scale))
        plain, plain_rows = counted(unet)
        assert torch.equal(run(Denoiser(patched, cfg=7.0)), run(Denoiser(plain, cfg=scale)))
        assert len(rows) == len(plain_rows)


@in_forge
def test_composed_prompts(unet):
    """`a AND b :0.5`: Forge multiplies the scale by the strengths, and at scale 1 takes the negative prompt away."""
    composition = [[(0, 1.0), (0, 0.5)], [(1, 1.0), (1, 0.5)]]
    patched, _ = guided(unet, kdist.LateNegative(3.0, 2.0, late=1.0))
    found = run(Denoiser(patched, composition=composition))
    expected, _ = reference(unet, kdist.LateNegative(3.0, 2.0, late=1.0), strength=1.5)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


@in_forge
def test_nobody_sees_zeros(unet):
    """A hook after guidance, and a sampler that reads the unconditional prediction: no pass is left out."""
    schedule = SCHEDULES[1]
    for options in ({"needs_uncond": lambda: True}, {}):
        patched, rows = guided(unet, schedule, **options)
        if not options:
            patched.set_model_sampler_post_cfg_function(lambda args: args["denoised"])
        denoiser = Denoiser(patched)
        found = run(denoiser)
        assert len(rows) == 2 * (len(SIGMAS) - 1)
        assert all(uncond.any() for uncond in denoiser.uncond_seen)
        expected, _ = reference(unet, schedule)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


@in_forge
def test_what_is_missing_is_said(unet):
    patched, _ = guided(unet, SCHEDULES[0])
    with pytest.raises(ValueError, match="needs the negative prompt"):
        run(Denoiser(patched, uncond=None, cfg=1.0))
    percent = InTerms("percent", kdist.LateNegative, {"scale": 3.0, "sigma_switch": 50})
    with pytest.raises(ValueError, match="does not say its noise levels"):
        run(Denoiser(guided(unet, percent, levels=lambda: None)[0]))
    patched, rows = guided(unet, percent, levels=lambda: SIGMAS.tolist())
    run(Denoiser(patched))
    assert len(rows) == 4 * 2 + 3  # half of 7 steps: the first four, at 14, 6, 3 and 1.5
    unet = unet.clone()
    unet.add_conditioning_modifier(forge.refuse("no such schedule"))
    with pytest.raises(ValueError, match="no such schedule"):
        run(Denoiser(unet))


# Without Forge


def modify(schedule, sigma, uncond=(), cond=({"strength": 1},), options=None, model=None):
    modifier = forge.conditioning_modifier(schedule)
    _, _, _, *rest = modifier(model, None, torch.full((2,), sigma), list(uncond), list(cond), 7.0, options or {}, 0)
    return rest  # uncond, cond, scale, options, seed


def test_passes_and_scales():
    window = kdist.NegativeWindow(4.0, 0.5, 4.0, inside=0.0, after=1.0)
    assert modify(window, 9.0, ["n"])[:3] == [["n"], [{"strength": 1}], 4.0]
    assert modify(window, 2.0, ["n"])[:3] == [["n"], [], 0.0]
    assert modify(window, 0.2, ["n"])[2:4] == [1.0, {}]  # Forge leaves the negative prompt out itself
    looked_at = {"sampler_post_cfg_function": [print]}
    assert modify(window, 2.0, ["n"], options=looked_at)[1:3] == [[{"strength": 1}], 0.0]
    assert modify(window, 0.2, ["n"], options=looked_at)[3]["disable_cfg1_optimization"]
    assert "disable_cfg1_optimization" not in looked_at
    flow = SimpleNamespace(predictor=SimpleNamespace(prediction_type="const"))
    assert modify(window, 0.75, ["n"], model=flow)[2] == 0.0  # s = 0.75 is sigma 3
    with pytest.raises(ValueError, match="different noise levels"):
        forge.conditioning_modifier(window)(None, None, torch.tensor([9.0, 1.0]), ["n"], [], 7.0, {}, 0)
    without = [None, [{"strength": 1}], 1.0, {}, 0]  # no negative prompt, which the web UI does not make at scale 1
    assert list(forge.conditioning_modifier(window)(None, None, torch.tensor([0.2]), *without)[3:]) == without
    with pytest.raises(ValueError, match="the scale is 4 at sigma 9, which needs the negative prompt"):
        forge.conditioning_modifier(window)(None, None, torch.tensor([9.0]), *without)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (("late negative", 7.0, 0.5, 2.0, 9.0), kdist.LateNegative(7.0, 2.0, 0.5)),
        (("early negative", 7.0, 0.0, 2.0, 0.1), kdist.EarlyNegative(7.0, 2.0, 0.0, 0.1)),
        (("negative window", 7.0, 0.0, 2.0, 0.5), kdist.NegativeWindow(7.0, 0.5, 2.0)),
        (("interval", 7.0, 1.0, 2.0, 0.5), kdist.Interval(7.0, 0.5, 2.0)),
        (("constant", 7.0, 1.0, 2.0, 0.5), kdist.Constant(7.0)),
        (("interval", 7.0, 1.0, 0.75, 0.5, "flow s (0 to 1)"), kdist.Interval(7.0, 1.0, 3.0)),
        (("interval", 7.0, 1.0, 2.0, 0.5, "sigma", "linear-in-variance:w0=0,omega=2"), kdist.LinearInVariance(0, 2)),
    ],
)  # fmt: skip
def test_panel(fields, expected):
    assert forge.panel_schedule(*fields) == expected


def test_panel_in_percent_and_its_picture():
    waiting = forge.panel_schedule("negative window", 7.0, 0.0, 25.0, 75.0, "percent of steps")
    assert waiting.on([8.0, 4.0, 2.0, 1.0, 0.0]) == kdist.NegativeWindow(7.0, 1.0, 4.0)
    lines = forge.curve(waiting, [8.0, 4.0, 2.0, 1.0, 0.0]).axes[0].get_lines()
    assert list(lines[-1].get_ydata()) == [7.0, 0.0, 0.0, 7.0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (("interval", 7.0, 1.0, 0.5, 2.0), "swap"),
        (("late negative", 7.0, 1.0, 120.0, 0.0, "percent of steps"), "0 .start. to 100"),
        (("square", 7.0, 1.0, 0.5, 2.0), "unknown family"),
        (("late negative", 7.0, 1.0, None, 2.0), "must be a number; got None"),
        (("constant", 7.0, 1.0, 0.5, 2.0, "sigma", "rampp:start=1"), "unknown schedule"),
        (("constant", 7.0, 1.0, 0.5, 2.0, "sigma", '{"type": '), "not JSON"),
        (("constant", 7.0, 1.0, 0.5, 2.0, "sigma", "/no/such/file.json"), "cannot be read from"),
        (("constant", 7.0, 1.0, 0.5, 2.0, "sigma", str(kdist.PerClass({0: 2.0}) * 2)), "prompts number no classes"),
    ],
)
def test_panel_refuses(fields, message):
    with pytest.raises(ValueError, match=message):
        forge.panel_schedule(*fields)


class Patcher:
    def __init__(self):
        self.modifiers = []

    def clone(self):
        return Patcher()

    def add_conditioning_modifier(self, modifier):
        self.modifiers.append(modifier)


def job(**more):
    objects = SimpleNamespace(unet=Patcher())
    sampler = SimpleNamespace(get_sigmas=lambda p, steps: SIGMAS, model_wrap_cfg=SimpleNamespace())
    model = SimpleNamespace(forge_objects=objects)
    return SimpleNamespace(sd_model=model, extra_generation_params={}, sampler=sampler, steps=7, **more)


def test_script(script):
    panel = script.KdistGuidance()
    _, *fields = panel.ui(False)
    values = [field.options["value"] for field in fields]
    figure, message = fields[0].handler(*values)
    assert figure is not None
    assert message == ""
    assert "**" in panel.preview("interval", 7.0, 1.0, 0.5, 2.0, "sigma", "")[1]

    p = job()
    panel.process_before_every_sampling(p, True, *values)
    assert len(p.sd_model.forge_objects.unet.modifiers) == 1
    assert p.extra_generation_params["kdist family"] == "late negative"
    # what is written into the picture's text is what the panel reads back
    assert [name for _, name in panel.infotext_fields[1:]] == [f"kdist {name}" for name in script.FIELDS]
    assert panel.infotext_fields[0][1](p.extra_generation_params)
    (modifier,) = p.sd_model.forge_objects.unet.modifiers
    scales = [modifier(None, None, SIGMAS[i : i + 1], ["n"], [{}], 7.0, {}, 0)[5] for i in range(7)]
    assert scales == [7.5] * 5 + [0.0] * 2  # after 60 % of 7 steps

    off = job()
    panel.process_before_every_sampling(off, False, *values)
    assert not off.sd_model.forge_objects.unet.modifiers
    axis = job(kdist_peak=3.0, kdist_family="constant")  # as the X/Y/Z plot sets them
    panel.process_before_every_sampling(axis, True, *values)
    (modifier,) = axis.sd_model.forge_objects.unet.modifiers
    assert modifier(None, None, SIGMAS[:1], ["n"], [{}], 7.0, {}, 0)[5] == 3.0
    wrong = job(kdist_upper=200.0)
    panel.process_before_every_sampling(wrong, True, *values)
    with pytest.raises(ValueError, match=r"0 \(start\) to 100"):
        wrong.sd_model.forge_objects.unet.modifiers[0](None)


def test_the_panel_opens_with_a_curve_of_its_fields(script, monkeypatch):
    plots = []
    monkeypatch.setattr(script.gr, "Plot", lambda **options: plots.append(options["value"]))
    script.KdistGuidance().ui(False)
    assert list(plots[0].axes[0].get_lines()[-1].get_ydata()) == [7.5] * 12 + [0.0] * 8  # after 60 % of 20 steps
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)  # the panel is there without it, and says so
    assert "matplotlib" in script.KdistGuidance.preview(*script.FIELDS.values())[1]


def test_an_old_web_ui_is_told_so(script, monkeypatch):
    said = []
    monkeypatch.delattr(script.scripts.Script, "process_before_every_sampling")
    monkeypatch.delattr(script.KdistGuidance, "process_before_every_sampling")
    monkeypatch.setattr(script.gr, "Markdown", said.append)
    assert script.KdistGuidance().ui(False) == []
    assert "too old" in said[0]


def test_axes_of_the_plot(script):
    def apply_field(name):
        return functools.partial(setattr, name)

    grid = SimpleNamespace(
        AxisOption=lambda label, kind, apply, choices=None: SimpleNamespace(label=label),
        apply_field=apply_field,
        axis_options=[],
    )
    script.scripts.scripts_data.append(SimpleNamespace(module=grid, script_class=object))
    script._axis_options()
    script._axis_options()
    assert [option.label for option in grid.axis_options] == [
        f"[kdist] {n}" for n in ("peak", "other", "upper", "lower", "family")
    ]


class CFGDenoiser(torch.nn.Module):
    """The call of the classic web UI's denoiser."""

    def __init__(self):
        super().__init__()
        self.scales = []

    def forward(self, x, sigma, uncond, cond, cond_scale, s_min_uncond, image_cond):
        self.scales.append(cond_scale)
        return x


class CFGDenoiserTimesteps(CFGDenoiser):
    inner_model = SimpleNamespace(inner_model=SimpleNamespace(alphas_cumprod=torch.tensor([0.9, 0.5, 0.1])))


EXTRA = {"uncond": None, "cond": None, "cond_scale": 7.0, "s_min_uncond": 0.0, "image_cond": None}


def test_classic_web_ui(script):
    """Each call is told its own scale, mid-steps too; a second job's schedule replaces the first's."""
    denoiser = CFGDenoiser()
    forge.schedule_denoiser(denoiser, kdist.Constant(9.0))
    forge.schedule_denoiser(denoiser, SCHEDULES[1])
    sample("heun", denoiser, torch.randn(2, 4), SIGMAS, extra_args=EXTRA)
    levels = [14.0, 6.0, 6.0, 3.0, 3.0, 1.5, 1.5, 0.7, 0.7, 0.3, 0.3, 0.1, 0.1]
    assert denoiser.scales == [SCHEDULES[1](level) for level in levels]
    timesteps = CFGDenoiserTimesteps()
    forge.schedule_denoiser(timesteps, kdist.LateNegative(3.0, 1.5))
    for timestep in (2, 1, 0):  # sigma 3, 1 and 1/3
        timesteps(torch.zeros(2, 4), torch.full((2,), timestep), **EXTRA)
    assert timesteps.scales == [3.0, 0.0, 0.0]

    with pytest.raises(ValueError, match="rows of this batch are at different noise levels"):
        denoiser(torch.zeros(2, 4), torch.tensor([9.0, 1.0]), **EXTRA)
    with pytest.raises(ValueError, match="does not name its CFG scale"):
        denoiser(torch.zeros(2, 4), torch.ones(2), None, None, 7.0, 0.0, None)

    panel = script.KdistGuidance()
    _, *fields = panel.ui(False)
    values = [field.options["value"] for field in fields]
    p = job()
    del p.sd_model.forge_objects
    p.sampler.model_wrap_cfg = CFGDenoiser()
    panel.process_before_every_sampling(p, True, *values)
    sample("euler", p.sampler.model_wrap_cfg, torch.randn(2, 4), SIGMAS, extra_args=EXTRA)
    assert p.sampler.model_wrap_cfg.scales == [7.5] * 5 + [0.0] * 2
    p.kdist_upper = 200.0
    panel.process_before_every_sampling(p, True, *values)
    with pytest.raises(ValueError, match=r"0 \(start\) to 100"):
        p.sampler.model_wrap_cfg(torch.zeros(2, 4), torch.ones(2), **EXTRA)
