"""A run folder as the training loop sees it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from center_loss.runs import checkpoint, contents
from center_loss.runs.files import CHECKPOINT, HISTORY


class Folder:
    """Takes all files of a run but the configuration, the figure and the metrics."""

    def __init__(
        self,
        folder: Path,
        say: Callable[[str], None] = print,
        report: Callable[[int, int, str], None] | None = None,
    ) -> None:
        self.folder, self.name, self.say, self.report = folder, str(folder), say, report

    def progress(self, step: int, steps: int, text: str) -> None:
        if self.report is not None:
            self.report(step, steps, text)

    def load_checkpoint(self) -> dict[str, Any] | None:
        if checkpoint.has_checkpoint(self.folder):
            return checkpoint.load_checkpoint(self.folder, self.say)
        if (self.folder / HISTORY).exists():
            self.say(f"{self.folder}: its {CHECKPOINT} is missing, starting from step 0")
        return None

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        checkpoint.save_checkpoint(self.folder, state)

    def save_history(self, rows: list[dict[str, float]]) -> None:
        contents.save_history(self.folder, rows)

    def save_features(self, arrays: dict[str, Tensor]) -> None:
        contents.save_features(self.folder, **{key: each.numpy() for key, each in arrays.items()})

    def save_snapshots(self, arrays: dict[str, Any]) -> None:
        contents.save_snapshots(self.folder, **arrays)
