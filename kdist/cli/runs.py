"""What is sampled and how, as options: of the commands that predict and design.

Each class and the whole data set are taken as Gaussians (:class:`kdist.theory.GaussianPair`).
"""

from __future__ import annotations

import dataclasses
import warnings
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import numpy as np

    from kdist.theory import GaussianPair

__all__ = ["GaussianRun", "Run", "Wider"]


class Wider(str, Enum):
    """What to do with directions in which a class is wider than the whole."""

    cap = "cap"
    project = "project"
    keep = "keep"


_DONE = {
    Wider.cap: "taken as wide as the class, so that guidance leaves them alone (--wider keep or project)",
    Wider.project: "left out (--wider cap or keep)",
    Wider.keep: "kept: any scale above 1 widens them without bound (--wider cap or project)",
}


@dataclasses.dataclass(frozen=True)
class Run:
    """The data, in the space that is sampled, and the noise levels."""

    features: Annotated[
        Path | None,
        typer.Option(
            "--features",
            "-f",
            help=".npz with x (N, ...) and y (N,), in the sampled space: pixels or latents  [default: the digits]",
        ),
    ] = None
    steps: Annotated[int, typer.Option(help="the solver's steps", min=1)] = 20
    sigma_min: Annotated[float, typer.Option(help="lowest noise level before 0", min=0)] = 0.02
    sigma_max: Annotated[float, typer.Option(help="noise level of the start", min=0)] = 80.0

    def sigmas(self) -> list[float]:
        """Karras et al.'s noise levels (rho 7) and 0: steps + 1 numbers.

        Raises:
            ValueError: ``sigma_min`` is not between 0 and ``sigma_max``.
        """
        low, high = self.sigma_min, self.sigma_max
        if not 0 < low < high:
            raise ValueError(f"--sigma-min must be positive and below --sigma-max; got {low:g} and {high:g}")
        from ..solvers import karras_sigmas  # torch

        return karras_sigmas(self.steps, low, high).tolist()

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """``x`` (N, ...) and ``y`` (N,).

        Raises:
            OSError: no such file.
            ValueError: no file of ``x`` and ``y``, or one of a network's features: no sampler adds noise there.
        """
        path = self.features
        if path is None:
            from ..digits import load_data

            images, labels = load_data()
            return images.numpy(), labels.numpy()
        from kdist.evals.features.feature_set import load_sampled

        try:
            return load_sampled(path)
        except (ValueError, OSError) as error:
            raise type(error)(f"--features: {error}") from error


@dataclasses.dataclass(frozen=True)
class GaussianRun(Run):
    """One Gaussian per class, sampled by a solver's finite steps or by infinitely many."""

    class_: Annotated[list[str] | None, typer.Option("--class", "-c", help="repeatable  [default: all]")] = None
    solver: Annotated[
        str | None, typer.Option(help="a k-diffusion solver at its finite steps  [default: infinitely many steps]")
    ] = None
    eta: Annotated[float | None, typer.Option(help="the solver's eta  [default: its own]")] = None
    noise: Annotated[
        float | None, typer.Option(help="sampling noise without --solver: 0 ODE, 1 reverse SDE  [default: 0]", min=0)
    ] = None
    wider: Annotated[
        Wider,
        typer.Option(
            help="directions in which a class is wider than the whole: cap the guidance there, project them out, keep"
        ),
    ] = Wider.cap

    def __str__(self) -> str:
        """How it is sampled, in words."""
        if self.solver:
            return f"{self.solver}, {self.steps} steps"
        return "infinitely many steps, " + ("ODE" if not self.noise else f"noise {self.noise:g}")

    def solver_options(self) -> dict[str, Any]:
        """Keyword arguments of the solver.

        Raises:
            ValueError: no such solver, or options that do not go together.
        """
        if self.solver is None:
            if self.eta is not None:
                raise ValueError("--eta belongs to a --solver; without one, --noise sets the sampling noise")
            return {}
        if self.noise is not None:
            raise ValueError("--noise is for infinitely many steps; a --solver has its own (set it with --eta)")
        from ..solvers import get_solver

        get_solver(self.solver)
        return {} if self.eta is None else {"eta": self.eta}

    def pairs(self) -> tuple[dict[str, GaussianPair], str | None]:
        """One pair per class; what was done where a class is wider than the whole, in a sentence.

        Raises:
            OSError: no such file.
            ValueError: no such class; see also :meth:`arrays` and :meth:`GaussianPair.from_data`.
        """
        import numpy as np

        from kdist.theory import GaussianPair, GuidanceWidensWarning

        x, y = self.arrays()
        labels = np.unique(y)
        known = [str(label) for label in labels]
        if unknown := sorted(set(self.class_ or ()) - set(known)):
            raise ValueError(f"--class {', '.join(unknown)}: no such class; there are {', '.join(known[:20])}")
        wanted = [label for label in labels if not self.class_ or str(label) in self.class_]
        with warnings.catch_warnings():  # counted and said below
            warnings.simplefilter("ignore", GuidanceWidensWarning)
            pairs = {str(label): GaussianPair.from_data(x, y, label) for label in wanted}
        count = sum(int(pair.wider.sum()) for pair in pairs.values())
        total = sum(len(pair.cond_var) for pair in pairs.values())
        if not count:
            return pairs, None
        if self.wider is Wider.cap:
            pairs = {name: pair.capped() for name, pair in pairs.items()}
        elif self.wider is Wider.project:
            pairs = {name: pair.projected() for name, pair in pairs.items()}
        note = f"In {count} of {total} directions a class is wider than the whole data set; these are "
        return pairs, f"{note}{_DONE[self.wider]}."
