"""What configs/ names, here since Hydra looks for its plugins in ``hydra_plugins`` alone.

It imports them at each start, so nothing heavy is imported by them before it is needed.
"""

from center_loss.program import multirun
from center_loss.sweeps.local import Local as LocalLauncher
from center_loss.sweeps.slurm import Slurm as SlurmLauncher

__all__ = ["LocalLauncher", "SlurmLauncher", "Sweeper"]


class Sweeper(multirun.Sweeper):
    """A class of this module's own, as a plugin has to be."""
