"""F7: the latent-diffusion experiment of arXiv 2602.00716 (scripts/sd15), with the weights or with a stand-in.

Stable Diffusion's weights cannot be shipped. Without them the whole protocol runs on a pipeline of the same parts with
a few thousand random weights: its numbers show that nothing is missing and say nothing about Stable Diffusion.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from scripts.style import COLOURS, interval, markdown, save

__all__ = ["compute", "draw", "texts"]

PROMPTS = ("a red dog", "two cats", "a house by the sea", "a bowl of fruit")  # of the stand-in


def compute(
    store: Any,
    *,
    steps: int,
    samples: int,
    scale: float,
    seed: int,
    schedules: Sequence[str],
    model: str | None = None,
    folder: str = "runs/sd15",
) -> dict[str, Any]:
    """What ``scripts/sd15/sample.py`` writes as results.json, and whether the weights were ``random``.

    Args:
        store: where measurements are kept, :mod:`results.store`.
        steps, samples, scale, seed, schedules: the protocol.
        model: a local diffusers folder; None for the stand-in.
        folder: the folder of a real model's images, where an interrupted run goes on.
    """
    options = {"steps": steps, "samples": samples, "scale": scale, "seed": seed, "schedule": list(schedules)}
    return store.get({"model": model, **options}, lambda: _measured(model, Path(folder), options))


def _measured(model: str | None, folder: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    from scripts.sd15 import sample as sd15

    if model is not None:
        sd15.main(Path(model), out=folder, **options)
        return {"random": False, **json.loads((folder / "results.json").read_text())}
    with TemporaryDirectory() as temporary:
        place = Path(temporary)
        _stand_in().save_pretrained(place / "model")
        (place / "prompts.txt").write_text("\n".join(PROMPTS))
        sd15.main(place / "model", out=place / "out", prompts=place / "prompts.txt", batch=8, device="cpu", **options)
        return {"random": True, **json.loads((place / "out" / "results.json").read_text())}


def _stand_in() -> Any:
    sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
    try:
        from tiny_models import stable_diffusion
    finally:
        sys.path.pop(0)
    import diffusers

    levels: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    return stable_diffusion(diffusers.PNDMScheduler(**levels, skip_prk_steps=True, steps_offset=1))


def draw(rows: Mapping[str, Any], path: Path) -> None:
    """Variance kept among a prompt's images, and network calls, by schedule."""
    import matplotlib.pyplot as plt

    schedules = rows["schedules"]
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
    places = range(len(schedules))
    kept = [_pixels(entry) for entry in schedules.values()]
    middle = [k[0] for k in kept]
    bars = [[k[0] - k[1] for k in kept], [k[2] - k[0] for k in kept]]
    axes[0].errorbar(middle, places, xerr=bars, fmt="o", color=COLOURS[0], capsize=2)
    axes[0].axvline(1, color="0.6", lw=0.8, zorder=0)
    axes[0].set_xlabel("variance among a prompt's images, over that at scale 1")
    axes[0].set_yticks(places, list(schedules))
    axes[0].invert_yaxis()
    axes[1].barh(places, [entry["calls"] for entry in schedules.values()], color=COLOURS[4])
    axes[1].set_xlabel("network calls per image")
    if rows["random"]:
        figure.suptitle("STAND-IN with random weights: shows that the protocol runs, no finding", color=COLOURS[1])
    save(figure, path)


def _pixels(entry: Mapping[str, Any]) -> list[float]:
    own = entry["pixels"]
    low, high = own["trace_ratio_lo"], own["trace_ratio_hi"]
    middle = own["trace_ratio"]
    return [middle, middle if low is None else low, middle if high is None else high]


def texts(rows: Mapping[str, Any]) -> dict[str, str]:
    """``table`` of the schedules, ``random`` where no real weights were at hand."""
    lines: Sequence[Sequence[str]] = [
        [f"`{name}`", interval(_pixels(entry)), f"{entry['calls']:g}", f"{entry['saved']:.0%}"]
        for name, entry in rows["schedules"].items()
    ]
    head = ["schedule", "variance, over scale 1", "network calls", "saved"]
    return {"table": markdown(head, lines), "random": "yes" if rows["random"] else ""}
