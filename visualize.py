"""Draw the figures of a folder of runs. `python visualize.py --help` lists the keys."""

import signal
import sys
from pathlib import Path

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until cli.main: no traceback of imports
try:
    import hydra
except ModuleNotFoundError:
    sys.exit(
        "error: hydra isn't installed: pip install -r requirements.txt (or, after make, "
        "use .venv/bin/python)"
    )

from omegaconf import DictConfig, OmegaConf

from center_loss import cli


@hydra.main(version_base="1.3", config_path="configs", config_name="visualize")
@cli.catching
def program(config: DictConfig) -> None:
    from center_loss import figures
    from center_loss.settings import visualize_settings

    settings = visualize_settings(OmegaConf.to_container(config, resolve=True))
    figures.draw(settings["figure"], Path(settings["runs"]), settings["palette"])


if __name__ == "__main__":
    sys.exit(cli.main(program))
