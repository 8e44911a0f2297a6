"""kdist.theory: what a guidance schedule does to each class, before a sample is drawn (float64 throughout)."""

from .design import InfeasibleDesign as InfeasibleDesign
from .design import design as design
from .distortion import Distortion as Distortion
from .distortion import compare as compare
from .distortion import distortion as distortion
from .exact import GaussianMixtureDenoiser as GaussianMixtureDenoiser
from .full import FullGaussianPair as FullGaussianPair
from .full import FullMoments as FullMoments
from .gaussian import GaussianPair as GaussianPair
from .gaussian import GuidanceWidensWarning as GuidanceWidensWarning
from .gaussian import Moments as Moments
from .gaussian import moments as moments
from .mixture import MeanField as MeanField
from .mixture import PhaseDiagram as PhaseDiagram
from .mixture import critical_alpha as critical_alpha
from .mixture import guided_critical_alpha as guided_critical_alpha
from .mixture import mean_field as mean_field
from .mixture import phase_diagram as phase_diagram
from .mixture import switch_variance as switch_variance
from .potential import potential as potential
from .solvers import SolverShare as SolverShare
from .solvers import affine_denoiser as affine_denoiser
from .solvers import solver_moments as solver_moments
from .solvers import solver_noise as solver_noise
from .solvers import solver_share as solver_share
