"""Run train.py, and at a chosen point do something to it: python at_a_point.py POINT ACTION …

POINT is EVENT:N, the N-th time that it happens:
    step        a training step has ended
    evaluate    features are about to be checked for their accuracy
    draw        a figure is about to be drawn
    half FILE   half of the file is written, under its temporary name
    rename FILE the file is about to get its name
    renamed FILE  it has just got it
ACTION is what to do: the name of a signal, or of two, SIGINT+SIGINT, for the program itself; or
vanish, to remove the run's folder. The rest is train.py's command line. A checkpoint is written
after each step.
"""

import builtins
import os
import runpy
import shutil
import signal
import sys
import time
from pathlib import Path

from center_loss import metrics, trainer, training
from center_loss.figures import style
from center_loss.runs import files

_, point, action, *arguments = sys.argv
event, _, number = point.rpartition(":")
left = int(number)
folder = next(Path(each[11:]) for each in arguments if each.startswith("output_dir="))


def reached(happened: str) -> None:
    global left
    if happened != event:
        return
    left -= 1
    if left:
        return
    if action == "vanish":
        shutil.rmtree(folder)
        return
    for name in action.split("+"):
        os.kill(os.getpid(), signal.Signals[name])
        time.sleep(0.001)  # the handler runs


def around(module, name: str, happened: str, after: bool = False) -> None:
    function = getattr(module, name)

    def wrapped(*args, **options):
        if not after:
            reached(happened)
        result = function(*args, **options)
        if after:
            reached(happened)
        return result

    setattr(module, name, wrapped)


class HalfWritten:
    """A file of which half is written when its first write comes to the point."""

    def __init__(self, path: Path, mode: str) -> None:
        self.file = builtins.open(path, mode)  # noqa: SIM115
        self.name = path.name.split(".", 1)[1].rsplit(".", 2)[0]  # of .NAME.PID.tmp

    def write(self, content: bytes) -> int:
        self.file.write(content[: len(content) // 2])
        self.file.flush()
        reached(f"half {self.name}")
        return self.file.write(content[len(content) // 2 :])

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.file.close()

    def __getattr__(self, name: str):
        return getattr(self.file, name)


def replace(source, target) -> None:
    reached(f"rename {Path(target).name}")
    os_replace(source, target)
    reached(f"renamed {Path(target).name}")


training.CHECKPOINT_SECONDS, training.CHECK_EVERY = 0, 1
around(trainer, "training_step", "step", after=True)
around(metrics, "accuracy", "evaluate")
around(style, "save", "draw")
os_replace, os.replace = os.replace, replace
files.open = HalfWritten
sys.argv = ["train.py", *arguments]
sys.path.insert(0, str(Path(__file__).parents[2]))
runpy.run_path(str(Path(__file__).parents[2] / "train.py"), run_name="__main__")
