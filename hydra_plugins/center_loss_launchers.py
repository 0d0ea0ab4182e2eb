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

    def __init__(self, n_jobs: int | str, renamed: str | None = None) -> None:
        super().__init__(Local(n_jobs), renamed)


class SlurmLauncher(SweepLauncher):
    """Jobs of a cluster: configs/hydra/launcher/slurm.yaml."""

    def __init__(
        self,
        cluster: str,
        n_jobs: int | None,
        submitit_folder: str,
        max_num_timeout: int,
        renamed: str | None = None,
        **parameters: Any,
    ) -> None:
        plain = {
            key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            for key, value in parameters.items()
        }
        super().__init__(Slurm(cluster, n_jobs, submitit_folder, max_num_timeout, **plain), renamed)
