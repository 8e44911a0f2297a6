"""kdist: guidance schedules for every k-diffusion solver, and what guidance does to the diversity of each class.

    guided = kdist.guide(model, kdist.Interval(scale=2.0, sigma_lo=0.3, sigma_hi=2.0), uncond={"class_cond": 10})
    x = K.sampling.sample_dpmpp_2m(guided, noise, sigmas, extra_args={"class_cond": y})

Scales are k-diffusion's ``cond_scale`` everywhere: 1 conditional, 0 unconditional (the papers' ``w`` is scale - 1).
The names stand in :mod:`kdist.public`. They are loaded, and torch with them, when the first one is used, so that the
command line answers ``--help`` at once.
"""

from os.path import dirname, isfile, join

TYPE_CHECKING = False  # as typing's; importing anything here would keep the command line from its first line
__version__ = "0.2.0.dev0"  # the only place; pyproject.toml reads it from here

if isfile(join(dirname(__file__), "theory")):
    raise ImportError(
        "this checkout of kdist has text files where links belong (kdist/theory, kdist/evals): allow git to make links "
        "(git config core.symlinks true; on Windows also developer mode) and run git checkout -- kdist, or pip install "
        "kdist from a wheel"
    )

if TYPE_CHECKING:
    from .public import *
    from .public import __all__ as __all__
else:

    def __getattr__(name: str) -> object:
        if name.startswith("__") and name != "__all__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module
        from importlib.util import find_spec

        if find_spec(f"{__name__}.{name}"):  # `from . import rules`, inside a module that kdist.public is importing
            return import_module(f".{name}", __name__)
        public = import_module(".public", __name__)  # not `from . import`, which would first ask here for the name
        globals().update({known: getattr(public, known) for known in ("__all__", *public.__all__)})
        try:
            return globals()[name]
        except KeyError:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None

    def __dir__() -> list[str]:
        return sorted({*globals(), *__getattr__("__all__")})
