"""The panel "Guidance schedule (kdist)" of Stable Diffusion WebUI Forge and of the classic web UI."""

from __future__ import annotations

from typing import Any

import gradio as gr
from modules import script_callbacks, scripts, shared
from modules.ui_components import InputAccordion

try:
    from kdist.adapters.forge import (
        FAMILIES,
        TERMS,
        conditioning_modifier,
        curve,
        panel_schedule,
        refuse,
        schedule_denoiser,
    )
    from kdist.schedules import InTerms
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "kdist":
        raise
    raise ImportError(
        "install kdist for the Python that runs the web UI, and start it again: "
        'python -m pip install matplotlib "kdist @ git+https://github.com/kdist/kdist"'
    ) from error

# 20 steps of Stable Diffusion with Karras levels, for the picture
RHO, STEPS = 7.0, 20
PREVIEW = [(14.6 ** (1 / RHO) + i / (STEPS - 1) * (0.03 ** (1 / RHO) - 14.6 ** (1 / RHO))) ** RHO for i in range(STEPS)]
# the panel's fields and what they start with
FIELDS: dict[str, Any] = {
    "family": "late negative",
    "peak": 7.5,
    "other": 0.0,
    "upper": 60.0,
    "lower": 80.0,
    "terms": "percent of steps",
    "text": "",
}


class KdistGuidance(scripts.Script):
    """Guidance whose scale follows the noise level; it replaces the CFG scale."""

    sorting_priority = 12

    def title(self) -> str:
        return "Guidance schedule (kdist)"

    def show(self, is_img2img: bool) -> Any:
        return scripts.AlwaysVisible

    def ui(self, is_img2img: bool) -> list[Any]:
        if not hasattr(scripts.Script, "process_before_every_sampling"):
            gr.Markdown(f"**{self.title()}: this web UI is too old for it; version 1.10 or newer is needed**")
            return []
        with InputAccordion(False, label=self.title()) as enabled:
            with gr.Row():
                family = gr.Dropdown(label="Family", choices=list(FAMILIES), value=FIELDS["family"])
                terms = gr.Dropdown(label="Levels given in", choices=list(TERMS), value=FIELDS["terms"])
            with gr.Row():
                peak = gr.Slider(label="Peak scale", minimum=-10.0, maximum=30.0, step=0.1, value=FIELDS["peak"])
                other = gr.Slider(label="Other scale", minimum=-10.0, maximum=30.0, step=0.1, value=FIELDS["other"])
            with gr.Row():
                upper = gr.Number(label="Switch, or upper edge", value=FIELDS["upper"])
                lower = gr.Number(label="Lower edge", value=FIELDS["lower"])
            text = gr.Textbox(label="Any other schedule, as text or JSON", value=FIELDS["text"], lines=1)
            message = gr.Markdown("")
            plot = gr.Plot(value=self.preview(*FIELDS.values())[0], show_label=False)  # a label would hide a corner
        fields = [family, peak, other, upper, lower, terms, text]
        for field in fields:
            field.change(self.preview, inputs=fields, outputs=[plot, message], show_progress=False)
        names = [f"kdist {name}" for name in FIELDS]
        self.infotext_fields = [
            (enabled, lambda given: "kdist family" in given),
            *zip(fields, names, strict=True),
        ]
        self.paste_field_names = names
        return [enabled, *fields]

    @staticmethod
    def preview(*values: Any) -> tuple[Any, str]:
        """The picture, or one sentence in its place."""
        try:
            return curve(panel_schedule(*values), [*PREVIEW, 0.0]), ""
        except (ValueError, ImportError) as error:
            return None, f"**{error}**"

    def process_before_every_sampling(self, p: Any, *values: Any, **_: Any) -> None:
        enabled, *fields = values
        fields = [getattr(p, f"kdist_{name}", field) for name, field in zip(FIELDS, fields, strict=True)]
        if not enabled:
            return
        try:
            schedule = panel_schedule(*fields)
        except ValueError as error:
            schedule, wrong = None, f"kdist: {error}"
        levels = (lambda: _levels(p)) if isinstance(schedule, InTerms) else None
        if hasattr(p.sd_model, "forge_objects"):
            unet = p.sd_model.forge_objects.unet.clone()
            modifier = conditioning_modifier(schedule, levels=levels, needs_uncond=lambda: _needs_uncond(p))
            unet.add_conditioning_modifier(refuse(wrong) if schedule is None else modifier)
            p.sd_model.forge_objects.unet = unet
        elif schedule is None:
            p.sampler.model_wrap_cfg.forward = refuse(wrong)
        else:
            flow = getattr(p.sd_model, "is_sd3", False)
            schedule_denoiser(p.sampler.model_wrap_cfg, schedule, levels, flow=flow, options=shared.opts)
        written = {f"kdist {name}": value for name, value in zip(FIELDS, fields, strict=True) if value != ""}
        p.extra_generation_params.update(written)


def _levels(p: Any) -> Any:
    """The levels of the whole run, as percentages in prompts are of the whole run too; None where there are none."""
    steps = (getattr(p, "hr_second_pass_steps", 0) if getattr(p, "is_hr_pass", False) else 0) or p.steps
    get = getattr(p.sampler, "get_sigmas", None)
    return None if get is None else get(p, steps).tolist()


def _needs_uncond(p: Any) -> bool:
    return bool(getattr(p.sampler.model_wrap_cfg, "need_last_noise_uncond", False))


def _axis_options() -> None:
    """The panel's numbers and the family as axes of the X/Y/Z plot, where that script is loaded."""
    for data in scripts.scripts_data:
        grid = data.module
        if not (hasattr(grid, "AxisOption") and hasattr(grid, "axis_options")):
            continue
        known = {option.label for option in grid.axis_options}
        for name in ("peak", "other", "upper", "lower", "family"):
            label, apply = f"[kdist] {name}", grid.apply_field(f"kdist_{name}")
            choices = {"choices": lambda: list(FAMILIES)} if name == "family" else {}
            if label not in known:
                grid.axis_options.append(grid.AxisOption(label, str if choices else float, apply, **choices))


script_callbacks.on_before_ui(_axis_options)
