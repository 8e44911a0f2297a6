"""``kdist predict`` and ``kdist design``: what schedules do to the classes of a data set, and which one keeps them.

Each class and the whole data set are taken as Gaussians (:class:`kdist.theory.GaussianPair`). Bad input is a
ValueError, OSError or ImportError, which the ``kdist`` command shows as one line (exit code 2).
"""

from __future__ import annotations

import dataclasses
import json
import warnings
import zipfile
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from ..files import write_atomically

if TYPE_CHECKING:
    from kdist.theory.gaussian.finite_steps import SolverShare
    from kdist.theory.gaussian.pair import GaussianPair
    from kdist.theory.gaussian.summary import Distortion

    from .. import Schedule

__all__ = ["design_command", "karras_sigmas", "load_arrays", "load_pairs", "predict"]

DEFAULT_SCHEDULES = ("1", "2", "late-negative:scale=3,sigma_switch=1")


class Wider(str, Enum):
    """What to do with directions in which a class is wider than the whole."""

    cap = "cap"
    project = "project"
    keep = "keep"


class Shape(str, Enum):
    """Of a designed schedule."""

    window = "window"
    free = "free"


Features = Annotated[
    Path | None,
    typer.Option(
        "--features",
        "-f",
        help=".npz with x (N, ...) and y (N,), in the space that is sampled: pixels or latents  [default: the digits]",
    ),
]
Classes = Annotated[list[str] | None, typer.Option("--class", "-c", help="a class, repeatable  [default: all]")]
WiderOption = Annotated[
    Wider,
    typer.Option(
        help="directions in which a class is wider than the whole: cap the guidance there, project them out, or keep"
    ),
]
SolverOption = Annotated[
    str | None, typer.Option(help="a k-diffusion solver at its finite steps  [default: infinitely many steps]")
]
Steps = Annotated[int, typer.Option(help="of the solver", min=1)]
Eta = Annotated[float | None, typer.Option(help="the solver's eta  [default: its own]")]
Noise = Annotated[
    float | None, typer.Option(help="sampling noise without --solver: 0 ODE, 1 reverse SDE  [default: 0]", min=0)
]
SigmaMin = Annotated[float, typer.Option(help="lowest noise level before 0", min=0)]
SigmaMax = Annotated[float, typer.Option(help="noise level of the start", min=0)]


def predict(
    features: Features = None,
    schedule: Annotated[
        list[str] | None,
        typer.Option(
            "--schedule", "-s", help="repeatable: a scale, 'late-negative:scale=3,sigma_switch=1', a .json file"
        ),
    ] = None,
    class_: Classes = None,
    solver: SolverOption = None,
    steps: Steps = 20,
    eta: Eta = None,
    noise: Noise = None,
    sigma_min: SigmaMin = 0.02,
    sigma_max: SigmaMax = 80.0,
    wider: WiderOption = Wider.cap,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="folder for predict.json and predict.png  [default: no files]")
    ] = None,
) -> None:
    """Predict what schedules do to the mean and the variance of each class, before sampling.

    Example: kdist predict --features real.npz --schedule 4 --schedule late-negative:scale=3,sigma_switch=1
    --solver dpmpp_2m --steps 20 --out prediction
    """
    from rich.console import Console

    from kdist.theory.gaussian.finite_steps import solver_share
    from kdist.theory.gaussian.summary import distortion

    from .. import parse
    from ..files import prepare_output
    from ..schedules import describe

    console = Console()
    schedules = {text: parse(text) for text in schedule or DEFAULT_SCHEDULES}
    sigmas = karras_sigmas(steps, sigma_min, sigma_max)
    options = _solver_options(solver, eta, noise)
    if out is not None:
        prepare_output(out)
    pairs, note = load_pairs(features, class_, wider)
    results: dict[str, dict[str, Distortion]] = {}
    shares: dict[str, list[SolverShare]] = {}
    for text, chosen in schedules.items():
        if solver is None:
            results[text] = {
                name: distortion(pair, chosen, sigma_max=sigma_max, noise=noise or 0.0) for name, pair in pairs.items()
            }
            continue
        shares[text] = [solver_share(pair, chosen, solver, sigmas, **options) for pair in pairs.values()]
        results[text] = {name: share.total for name, share in zip(pairs, shares[text], strict=True)}

    names = {text: describe(chosen) for text, chosen in schedules.items()}
    console.print(_table(results, shares, _run_name(solver, steps, noise), names))
    if note:
        console.print(note, highlight=False)
    console.print(
        "One Gaussian per class is a first estimate: sub-classes and the network's own errors are not in it.",
        style="dim",
        highlight=False,
    )
    if out is not None:
        settings = {
            "features": None if features is None else str(features), "solver": solver, "steps": steps, "eta": eta,
            "noise": noise, "sigma_min": sigma_min, "sigma_max": sigma_max, "wider": wider.value,
        }  # fmt: skip
        _write_json(out / "predict.json", {"settings": settings, "schedules": _records(schedules, results, shares)})
        _draw(out / "predict.png", schedules, pairs, results)
        console.print(f"all numbers: {out / 'predict.json'}   picture: {out / 'predict.png'}", highlight=False)


def design_command(
    features: Features = None,
    scale: Annotated[float, typer.Option(help="guidance scale early in sampling, the largest anywhere")] = 4.0,
    keep_variance: Annotated[float, typer.Option(help="smallest share of variance kept in any direction")] = 0.95,
    min_scale: Annotated[float, typer.Option(help="smallest scale allowed anywhere")] = 0.0,
    shape: Annotated[Shape, typer.Option(help="window: few numbers; free: a curve")] = Shape.window,
    hold: Annotated[float | None, typer.Option(help="sigma down to which --scale must hold")] = None,
    max_variance: Annotated[float | None, typer.Option(help="largest variance ratio in any direction")] = None,
    overshoot: Annotated[float | None, typer.Option(help="largest overshoot of any class")] = None,
    separation: Annotated[float | None, typer.Option(help="smallest overshoot wanted of every class")] = None,
    class_: Classes = None,
    solver: SolverOption = None,
    steps: Steps = 20,
    eta: Eta = None,
    noise: Noise = None,
    sigma_min: SigmaMin = 0.02,
    sigma_max: SigmaMax = 80.0,
    wider: WiderOption = Wider.cap,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="the file to write; a .png beside it shows the schedule")
    ] = Path("schedule.json"),
) -> None:
    """Design a schedule that guides early and keeps the variance of every class, or say why none does.

    Example: kdist design --features real.npz --scale 4 --keep-variance 0.95 --shape window --out schedule.json
    """
    from rich.console import Console

    from kdist.theory.designs.overlapping import design
    from kdist.theory.gaussian.finite_steps import solver_moments
    from kdist.theory.gaussian.summary import compare, distortion

    from ..files import prepare_output

    console = Console()
    if out.suffix != ".json":
        raise ValueError(f"--out must be a .json file, which kdist reads as a schedule; got {out}")
    sigmas = karras_sigmas(steps, sigma_min, sigma_max)
    options = _solver_options(solver, eta, noise)
    prepare_output(out.parent)
    pairs, note = load_pairs(features, class_, wider)
    # without a solver there are no steps, only the range of sigma
    chosen = design(
        list(pairs.values()),
        scale,
        sigmas=sigmas if solver else [sigma_max, 0.0],
        keep_variance=keep_variance,
        min_scale=min_scale,
        shape=shape.value,
        noise=noise,
        hold=hold,
        max_variance=max_variance,
        overshoot=overshoot,
        separation=separation,
        solver=solver,
        **options,
    )
    constant = f"{scale:g}"
    schedules: dict[str, Schedule | float] = {"designed": chosen, constant: scale, "1": 1.0}
    results: dict[str, dict[str, Distortion]] = {}
    for text, candidate in schedules.items():
        results[text] = {
            name: compare(pair, solver_moments(pair, candidate, solver, sigmas, **options))
            if solver
            else distortion(pair, candidate, sigma_max=sigma_max, noise=noise or 0.0)
            for name, pair in pairs.items()
        }
    chosen.to_json(out)
    picture = out.with_suffix(".png")
    _draw(picture, {"designed": chosen}, pairs, {text: results[text] for text in ("designed", constant)})
    console.print(_table(results, {}, _run_name(solver, steps, noise), {"1": "no guidance"}))
    if note:
        console.print(note, highlight=False)
    console.print(
        f"Certified: no direction keeps less than {keep_variance:g} of the variance that the same run has at scale 1. "
        "(The table is against the real variance, solver and all.)",
        highlight=False,
    )
    if shape is Shape.window:
        console.print(f"schedule: {chosen}", highlight=False, soft_wrap=True)
    console.print(f"kdist.from_json({str(out)!r}) or --schedule {out} uses it; picture: {picture}", highlight=False)


def load_pairs(
    features: Path | None, classes: list[str] | None, wider: Wider
) -> tuple[dict[str, GaussianPair], str | None]:
    """One Gaussian pair per class of an .npz (None: the digits); what was done where a class is wider than the whole.

    Raises:
        OSError: no such file.
        ValueError: not an .npz with ``x`` and ``y``, or one that :meth:`GaussianPair.from_data` refuses.
    """
    from kdist.theory.gaussian.pair import GaussianPair, GuidanceWidensWarning

    x, y = load_arrays(features)
    known = [str(label) for label in np.unique(y)]
    unknown = sorted(set(classes or ()) - set(known))
    if unknown:
        raise ValueError(f"--class {', '.join(unknown)}: no such class; there are {', '.join(known[:20])}")
    wanted = [label for label in np.unique(y) if not classes or str(label) in classes]
    with warnings.catch_warnings():  # counted and said below
        warnings.simplefilter("ignore", GuidanceWidensWarning)
        pairs = {str(label): GaussianPair.from_data(x, y, label) for label in wanted}
    count = sum(int(pair.wider.sum()) for pair in pairs.values())
    total = sum(len(pair.cond_var) for pair in pairs.values())
    if not count:
        return pairs, None
    done = {
        Wider.cap: "taken as wide as the class, so that guidance leaves them alone (--wider keep or project)",
        Wider.project: "left out (--wider cap or keep)",
        Wider.keep: "kept: any scale above 1 widens them without bound (--wider cap or project)",
    }[wider]
    if wider is Wider.cap:
        pairs = {name: pair.capped() for name, pair in pairs.items()}
    elif wider is Wider.project:
        pairs = {name: pair.projected() for name, pair in pairs.items()}
    return pairs, f"In {count} of {total} directions a class is wider than the whole data set; these are {done}."


def load_arrays(features: Path | None) -> tuple[Any, Any]:
    """``x`` and ``y`` of an .npz (None: the digits); errors as for :func:`load_pairs`."""
    if features is None:
        from ..digits import load_data

        x, y = load_data()
        return x.numpy(), y.numpy()
    if not features.is_file():
        raise FileNotFoundError(f"--features {features}: no such file")
    try:
        if not zipfile.is_zipfile(features):
            raise ValueError("it is no archive of arrays")
        with np.load(features, allow_pickle=False) as data:
            names = list(data.keys())
            if missing := {"x", "y"} - set(names):
                raise ValueError(f"no {' and '.join(sorted(missing))} in it, only {', '.join(names) or 'nothing'}")
            return data["x"], data["y"]
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"--features {features} must be an .npz with x (N, ...) and y (N,): {error}") from None


def karras_sigmas(steps: int, sigma_min: float, sigma_max: float) -> Any:
    """Karras et al.'s noise levels (rho 7) and 0: (steps + 1,) float64."""
    if not 0 < sigma_min < sigma_max:
        raise ValueError(f"--sigma-min must be positive and below --sigma-max; got {sigma_min:g} and {sigma_max:g}")
    ramp = np.linspace(0, 1, steps)
    return np.append((sigma_max ** (1 / 7) + ramp * (sigma_min ** (1 / 7) - sigma_max ** (1 / 7))) ** 7, 0.0)


def _solver_options(solver: str | None, eta: float | None, noise: float | None) -> dict[str, Any]:
    """Checked before any work."""
    if solver is None:
        if eta is not None:
            raise ValueError("--eta belongs to a --solver; without one, --noise sets the sampling noise")
        return {}
    if noise is not None:
        raise ValueError("--noise is for infinitely many steps; a --solver has its own (set it with --eta)")
    from ..solvers import get_solver

    get_solver(solver)
    return {} if eta is None else {"eta": eta}


def _run_name(solver: str | None, steps: int, noise: float | None) -> str:
    if solver:
        return f"{solver}, {steps} steps"
    return "infinitely many steps, " + ("ODE" if not noise else f"noise {noise:g}")


def _table(
    results: dict[str, dict[str, Distortion]],
    shares: dict[str, list[SolverShare]],
    run: str,
    names: Mapping[str, str],
) -> Any:
    from rich import box
    from rich.table import Table

    classes = len(next(iter(results.values())))
    table = Table(
        title=f"Predicted per class ({run}; mean over {classes} {'class' if classes == 1 else 'classes'})",
        box=box.SIMPLE,
    )
    table.add_column("guidance scale", min_width=18)
    columns = [
        "trace\nratio",
        *(["solver's\npart"] if shares else []),
        "lowest",
        "highest",
        "log-det\n/ d",
        "over-\nshoot",
    ]
    for name in columns:
        table.add_column(name, justify="right")
    for text, by_class in results.items():
        found = list(by_class.values())
        part = [f"{np.mean([share.solver_part for share in shares[text]]):+.3f}"] if shares else []
        table.add_row(
            names.get(text, text),
            f"{np.mean([d.trace_ratio for d in found]):.3f}",
            *part,
            f"{min(d.variance_ratio.min() for d in found):.3f}",
            f"{max(d.variance_ratio.max() for d in found):.3f}",
            f"{np.mean([d.log_det_ratio / len(d.var) for d in found]):+.3f}",
            f"{np.nanmean([d.overshoot for d in found]):+.3f}",
        )
    return table


def _records(
    schedules: Mapping[str, Schedule], results: dict[str, dict[str, Distortion]], shares: dict[str, list[SolverShare]]
) -> list[dict[str, Any]]:
    records = []
    for text, by_class in results.items():
        classes: dict[str, dict[str, Any]] = {
            name: {field.name: _plain(getattr(d, field.name)) for field in dataclasses.fields(d)}
            for name, d in by_class.items()
        }
        for name, share in zip(by_class, shares.get(text, []), strict=False):
            classes[name] |= {
                "exact_trace_ratio": share.exact.trace_ratio,
                "unguided_trace_ratio": share.unguided.trace_ratio,
                "solver_part": share.solver_part,
            }
        records.append({"spec": text, "schedule": schedules[text].to_dict(), "classes": classes})
    return records


def _plain(value: Any) -> Any:
    """JSON has no nan: an overshoot that is undefined becomes null."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    return None if value != value else value


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_atomically(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def _draw(
    path: Path,
    schedules: Mapping[str, Schedule],
    pairs: Mapping[str, GaussianPair],
    results: dict[str, dict[str, Distortion]],
) -> None:
    from kdist.theory.figures import draw_prediction

    draw_prediction(path, schedules, pairs, results)
