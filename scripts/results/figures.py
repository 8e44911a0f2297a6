"""The figures and tables of docs/results.md, with their parameters: what ``scripts/reproduce.py`` makes.

``full`` is what the documentation shows; ``quick`` exercises the same code in seconds and proves nothing. Both are
keyword arguments of the module's ``compute``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["FIGURES", "Figure"]


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        title: what it shows.
        module: the module of ``scripts/results`` that computes, draws and describes it.
        minutes: what the full run takes on one CPU core, roughly.
        full, quick: parameters.
    """

    title: str
    module: str
    minutes: float
    full: dict[str, Any] = field(default_factory=dict)
    quick: dict[str, Any] = field(default_factory=dict)


# of scripts/sd15/sample.py
LATENT = ("unguided", "constant", "interval", "late-50", "late-60", "late-70", "window-50-70", "early-30")

FIGURES: dict[str, Figure] = {
    "F1": Figure(
        "A guided Gaussian class: mean and variance against the scale",
        "gaussian",
        1,
        full={
            "scales": [1 + 0.25 * k for k in range(29)],
            "steps": [10, 20, 50],
            "solvers": ["euler", "heun", "dpmpp_2m", "euler_ancestral", "dpmpp_2m_sde"],
        },
        quick={"scales": [1.0, 2.0, 4.0], "steps": [10], "solvers": ["dpmpp_2m", "euler_ancestral"]},
    ),
    "F2": Figure(
        "When guidance distorts: simulation at growing dimension against the mean field",
        "transition",
        30,
        full={
            "families": [  # number of classes, alpha, scale, dimensions: up to 50 000 classes
                ("exp", 0.3, 2.0, (8, 14, 20, 26, 32, 36)),
                ("exp", 0.2, 4.0, (12, 24, 36, 48, 54)),
                ("exp", 0.1, 4.0, (16, 40, 70)),
                ("d", 0.0, 4.0, (8, 32, 128, 512)),
                ("d2", 0.0, 4.0, (8, 16, 32, 64, 128)),
            ],
            "rows": 32,
            "codebooks": 8,
            "steps": 80,
            "seed": 0,
        },
        quick={
            "families": [("exp", 0.3, 2.0, (8,)), ("d", 0.0, 4.0, (8,))],
            "rows": 16,
            "codebooks": 3,
            "steps": 16,
            "seed": 0,
        },
    ),
    "F3": Figure(
        "Where guidance distorts, over the number of classes and the scale, without and with a negative window",
        "phase_map",
        4,
        full={
            "alphas": [round(0.05 * k, 2) for k in range(1, 41)],
            "scales": [1 + 0.125 * k for k in range(41)],
            "edge": 16,
        },
        quick={"alphas": [0.1, 0.5, 1.0, 2.0], "scales": [1.0, 4.0], "edge": 1},
    ),
    "F4": Figure(
        "No standard schedule keeps the variance, and what negative windows do",
        "no_schedule",
        4,
        full={
            "peaks": [1.5, 2.0, 3.0, 4.0, 6.0, 8.0],
            "points": 120,
            "random": 1000,
            "random_peak": 4.0,
            "seed": 0,
            "aligned": [2.0, 4.0],
            "variances": [0.05, 0.2, 0.5, 0.8],
            "edges": 6,
        },
        quick={
            "peaks": [2.0, 4.0],
            "points": 12,
            "random": 10,
            "random_peak": 4.0,
            "seed": 0,
            "aligned": [2.0],
            "variances": [0.2],
            "edges": 1,
            "finer": 3,
        },
    ),
    "F5": Figure(
        title="Many schedules and rules on the trained digits network",
        module="digits_front",
        minutes=80,
        full={
            "tune_seeds": [5],
            "tune_per_class": 60,
            "report_seeds": [101, 102, 103],
            "per_class": 100,
            "law_per_class": 50,
            "finalists": {
                "no guidance": 167,
                "constant 1.25": 167,
                "late negative": 167,
                "early negative": 167,
                "early negative, 0.25": 167,
                "designed on the class mixture": 167,
                "weak model": 167,
                "weak model, interval": 167,
            },
            "steps": 20,
            "accuracy": 0.985,
            "resamples": 199,
        },
        quick={
            "tune_seeds": [5],
            "tune_per_class": 2,
            "report_seeds": [101, 102],
            "per_class": 3,
            "law_per_class": 2,
            "steps": 4,
            "accuracy": 0.985,
            "resamples": 3,
            "names": ["no guidance", "constant 2", "late negative", "weak model"],
            "real_per_class": 20,
        },
    ),
    "F6": Figure(
        "Predicted against measured per class, for schedules that no predictor has seen",
        "predictors",
        35,
        full={
            "per_class": 80,
            "rung_per_class": 80,
            "fresh_per_class": 60,
            "probe_per_class": (24, 96),
            "probes": 16,
            "draws": 2,
            "steps": 20,
        },
        quick={
            "per_class": 3,
            "rung_per_class": 3,
            "fresh_per_class": 3,
            "probe_per_class": (4, 5),
            "probes": 4,
            "draws": 1,
            "steps": 3,
            "each": 1,
            "train_per_class": 66,
        },
    ),
    "F7": Figure(
        title="The latent-diffusion protocol",
        module="latent",
        minutes=1,
        full={"steps": 30, "samples": 20, "scale": 7.5, "seed": 0, "schedules": LATENT, "model": None},
        quick={"steps": 4, "samples": 2, "scale": 7.5, "seed": 0, "schedules": LATENT[:3]},
    ),
    "F8": Figure(
        title="Distortion against the number of classes, on one network",
        module="glyph_classes",
        minutes=30,
        full={
            "per_class": 48,
            "theory_per_class": 16,
            "seed": 0,
            "tune_seed": 1,
            "tune_per_class": 16,
            "steps": 20,
        },
        quick={
            "per_class": 2,
            "theory_per_class": 2,
            "seed": 0,
            "tune_seed": 1,
            "tune_per_class": 2,
            "steps": 2,
            "largest": 32,
            "most": 64,
            "families": ["no guidance", "constant", "interval"],
        },
    ),
    "F9": Figure(
        title="Families of guidance on several trained networks, at equal accuracy",
        module="networks",
        minutes=300,
        full={
            "networks": dict.fromkeys(("fashion", "fashion-1", "fashion-2", "digits", "digits-1", "digits-2")),  # all
            "tune_seed": 5,
            "tune_per_class": {"fashion": 20, "digits": 25},
            "report_seeds": [101, 102, 103],
            "per_class": {"fashion": 16, "digits": 30},
            "steps": 20,
            "informed": {"per_class": 16, "steps": 40, "seed": 0},
            "at_constant": ["fashion", "digits"],
        },
        quick={
            "networks": {
                "fashion": ["constant"],
                "digits": ["constant", "CADS", "weak model", "TCFG"],
                "digits-1": ["constant"],
            },
            "tune_seed": 5,
            "tune_per_class": {"fashion": 2, "digits": 2},
            "report_seeds": [101, 102],
            "per_class": {"fashion": 2, "digits": 2},
            "steps": 2,
            "informed": {"per_class": 2, "steps": 2, "seed": 0},
            "at_constant": ["digits"],
            "real_per_class": 20,
        },
    ),
    "F10": Figure(
        title="The search for a schedule against other ways to look, at equal calls",
        module="tuning",
        minutes=30,
        full={
            "subjects": {
                "digits": {
                    "accuracy": 0.995,
                    "samples": 150,
                    "truth": 60,
                    "repeats": {"tune": 5, "random": 5, "grid": 1, "tpe": 5, "hand": 1, "early": 1},
                },
                "fashion": {
                    "accuracy": 0.92,
                    "samples": 150,
                    "truth": 40,
                    "repeats": {"tune": 5, "random": 5, "grid": 1, "tpe": 5, "hand": 1},
                },
                "glyphs": {
                    "accuracy": 0.96,
                    "samples": 150,
                    "truth": 60,
                    "repeats": {"tune": 5, "random": 5, "grid": 1, "tpe": 5, "hand": 1, "early": 1},
                },
            },
            "calls_per_sample": 28,
            "curse": {"repeats": 20, "steps": 10, "samples": 100, "accuracy": 0.99},
            "reach": {
                "look": 30,
                "networks": {
                    # what the search holds to be told was chosen on 1 to 3
                    "digits": {"samples": 300, "truth": 60, "repeats": [0, 4, 5]},
                    "fashion": {"samples": 150, "truth": 40, "repeats": [0]},
                    "glyphs": {"samples": 300, "truth": 60, "repeats": [0]},
                },
            },
            "warm_starts": {
                "subject": "digits",
                "steps": 10,
                "samples": 150,
                "accuracy": 0.99,
                "calls_per_sample": 14,
                "seeds": 3,
                "truth": 60,
            },
        },
        quick={
            "subjects": {
                "digits, first 3": {
                    "accuracy": 0.5,
                    "samples": 40,
                    "truth": 2,
                    "repeats": {"tune": 1, "hand": 1},
                },
            },
            "calls_per_sample": 3.5,
            "curse": {"repeats": 0, "steps": 2, "samples": 60, "accuracy": 0.5},
            "reach": {"look": 2, "networks": {"digits, first 3": {"samples": 40, "truth": 2, "repeats": [0]}}},
            "warm_starts": {
                "subject": "digits, first 3",
                "steps": 2,
                "samples": 40,
                "accuracy": 0.5,
                "calls_per_sample": 3,
                "seeds": 1,
                "truth": 2,
                "arms": ["all"],
            },
            "steps": 2,
        },
    ),
}
