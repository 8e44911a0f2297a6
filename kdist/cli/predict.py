"""``kdist predict``: what schedules do to the classes of a data set, before anything is sampled."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..files import prepare_output, write_with_pictures
from .options import Schedules, grouped, terminal
from .runs import GaussianRun

if TYPE_CHECKING:
    from rich.table import Table

    from kdist.theory import Distortion, SolverShare

    from ..schedules import Schedule

__all__ = ["predict", "predicted_table"]

DEFAULT_SCHEDULES = ("1", "2", "late-negative:scale=3,sigma_switch=1")


@grouped
def predict(
    run: GaussianRun,
    schedule: Schedules = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="folder for predict.json and predict.png  [default: no files]")
    ] = None,
) -> None:
    """Predict what schedules do to the mean and the variance of each class, before sampling.

    Example: kdist predict --features real.npz --schedule 4 --schedule late-negative:scale=3,sigma_switch=1
    --solver dpmpp_2m --steps 20 --out prediction
    """

    from kdist.theory import distortion, solver_share
    from kdist.theory.figures import draw_prediction

    from ..schedules import describe, parse

    console = terminal()
    schedules = {text: parse(text) for text in schedule or DEFAULT_SCHEDULES}
    sigmas, options = run.sigmas(), run.solver_options()
    if out is not None:
        prepare_output(out)
    pairs, note = run.pairs()
    results: dict[str, dict[str, Distortion]] = {}
    shares: dict[str, list[SolverShare]] = {}
    for text, chosen in schedules.items():
        if run.solver is None:
            results[text] = {
                name: distortion(pair, chosen, sigma_max=run.sigma_max, noise=run.noise or 0.0)
                for name, pair in pairs.items()
            }
            continue
        shares[text] = [solver_share(pair, chosen, run.solver, sigmas, **options) for pair in pairs.values()]
        results[text] = {name: share.total for name, share in zip(pairs, shares[text], strict=True)}

    names = {text: describe(chosen) for text, chosen in schedules.items()}
    console.print(predicted_table(results, str(run), names, shares))
    if note:
        console.print(note)
    console.print(
        "One Gaussian per class is a first estimate: sub-classes and the network's own errors are not in it.",
        style="dim",
    )
    if out is not None:
        settings = {
            "features": None if run.features is None else str(run.features), "solver": run.solver, "steps": run.steps,
            "eta": run.eta, "noise": run.noise, "sigma_min": run.sigma_min, "sigma_max": run.sigma_max,
            "wider": run.wider.value,
        }  # fmt: skip
        content = {"settings": settings, "schedules": _records(schedules, results, shares)}
        write_with_pictures(
            out,
            {"predict.json": json.dumps(content, indent=1, allow_nan=False) + "\n"},
            former=["predict.png"],
            draw=lambda: {"predict": draw_prediction(schedules, pairs, results)},
        )
        console.print(f"all numbers: {out / 'predict.json'}   picture: {out / 'predict.png'}")


def predicted_table(
    results: Mapping[str, Mapping[str, Distortion]],
    run: str,
    names: Mapping[str, str],
    shares: Mapping[str, list[SolverShare]] | None = None,
) -> Table:
    """A row for each schedule, its numbers averaged over the classes.

    Args:
        results: what each schedule does to each class.
        run: how it is sampled, in words.
        names: what to call schedules, where not by their key.
        shares: what the solver's finite steps add, class by class, for each schedule.
    """
    import numpy as np
    from rich import box
    from rich.table import Table

    classes = len(next(iter(results.values())))
    table = Table(
        title=f"Predicted per class ({run}; mean over {classes} {'class' if classes == 1 else 'classes'})",
        box=box.SIMPLE,
    )
    table.add_column("guidance scale", min_width=18)
    part_column = ["solver's\npart"] if shares else []
    for name in ["trace\nratio", *part_column, "lowest", "highest", "log-det\n/ d", "over-\nshoot"]:
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
    if hasattr(value, "tolist"):
        return value.tolist()
    return None if value != value else value
