"""The launchers of sweeps, here since Hydra looks for its plugins in ``hydra_plugins`` alone.

It imports them at each start, so nothing heavy is imported by them before it is needed.
"""

from typing import Any

from omegaconf import OmegaConf

from center_loss.program.launcher import SweepLauncher
from center_loss.sweeps.local import Local
from center_loss.sweeps.slurm import Slurm


class LocalLauncher(SweepLauncher):
    """Processes of this machine: configs/hydra/launcher/local.yaml and parallel.yaml."""

    def __init__(self, n_jobs: int | str) -> None:
        super().__init__(Local(n_jobs))


class SlurmLauncher(SweepLauncher):
    """Jobs of a cluster: configs/hydra/launcher/slurm.yaml."""

    def __init__(self, **parameters: Any) -> None:
        plain: dict[str, Any] = {
            key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            for key, value in parameters.items()
        }
        super().__init__(Slurm(**plain))
