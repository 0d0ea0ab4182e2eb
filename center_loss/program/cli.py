"""What both programs do around Hydra: errors in one line, exit codes, keys that have no use."""

import contextlib
import functools
import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, OverrideParseException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from center_loss.base import signals, start
from center_loss.base.errors import UsageError, UserError, is_out_of_memory, one_line, reason

# Hydra 1.3 asks which defaults are meant, 1.4 what a configuration may name.
HYDRA_1_4 = hydra.__version__ >= "1.4"
VERSION: dict[str, Any] = {} if HYDRA_1_4 else {"version_base": "1.3"}
OURS = ["center_loss.*", "hydra_plugins.center_loss_launchers.*", "hydra._internal.*"]
MAIN: dict[str, Any] = {"execution_whitelist": OURS} if HYDRA_1_4 else VERSION
TRACEBACK = "CENTER_LOSS_TRACEBACK"  # set to 1, errors come with their traceback


def catching(job: Callable) -> Callable:
    """Decorate what Hydra calls: what goes wrong is reported in one line, and ends the program.

    Raised through Hydra, an exception would print lines of Hydra's own.
    """

    @functools.wraps(job)
    def reported(*arguments: Any, **options: Any) -> Any:
        try:
            return job(*arguments, **options)
        except Exception as error:
            sys.exit(_report(error))

    return reported


def main(program: Callable[[], None], interrupted: str = "interrupted") -> int:
    """Run a Hydra program; return its exit code: 0, 2 for wrong usage, 1 for what else went wrong.

    What a signal ended returns 128 and the signal's number, as a shell has it. The process may go
    on afterwards, as with %run: what Hydra and this one keep in it is set back.

    Args:
        program: a function decorated by ``hydra.main`` over ``catching``.
        interrupted: what to say after a signal, if what it interrupted doesn't.
    """
    environment, own, config = dict(os.environ), GlobalHydra.instance(), HydraConfig.instance()
    before = own.hydra, config.cfg
    own.clear()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra's own errors come here, unprinted
    start.printable()
    try:
        with signals.raised():
            return _run(program)
    except KeyboardInterrupt as error:
        with contextlib.suppress(OSError):  # the terminal may be gone
            print(f"\n{str(error) or interrupted}", file=sys.stderr)
        return getattr(error, "exit_code", 130)
    except BrokenPipeError:  # whoever reads the output has enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else Python would flush it once more
        return 1
    finally:
        os.environ.clear()
        os.environ.update(environment)
        own.hydra, config.cfg = before


def _run(program: Callable[[], None]) -> int:
    try:
        given = [_for_hydra(each) for each in _renamed(sys.argv[1:])]
        sys.argv[1:] = [each for each in given if each != "experiment=null"]
        program()
        sys.stdout.flush()
    except Exception as error:
        experiment = any(each.startswith("experiment=") for each in sys.argv)
        unseen = str(error).startswith(("Ambiguous value", "hydra.mode changed"))
        if experiment and "-m" not in sys.argv and unseen:
            # something else is wrong, so that the experiment's being a multirun wasn't seen; or
            # Hydra 1.4 doesn't see it
            sys.argv.insert(1, "-m")
            return _run(program)
        return _report(error, of_hydra=True)
    return 0


_OLDER = {  # names of launchers, and what says the same today
    "hydra/launcher=joblib": ["hydra/launcher=parallel", "hydra.launcher.n_jobs=-1"],
    "hydra/launcher=submitit_slurm": ["hydra/launcher=slurm"],
    "hydra/launcher=submitit_local": ["hydra/launcher=slurm_local"],
}


def _renamed(arguments: list[str]) -> list[str]:
    """With the new name of a launcher for the old one, and a line that says it."""
    for each in _OLDER.keys() & set(arguments):
        print(f"{each} is {' '.join(_OLDER[each])} now")
    return [new for each in arguments for new in _OLDER.get(each, [each])]


# Keys of Hydra's that would change nothing here, or leave files about: the one value that they may
# have, and what there is instead.
_NO_LOG = "what there is to say is printed, and a multirun's runs have a train.log"
_NO_USE: dict[str, tuple[Any, str]] = {
    "hydra.run.dir": (".", "there is output_dir=FOLDER, hydra.sweep.dir=FOLDER or out=FOLDER"),
    "hydra.output_subdir": (None, "a run's config.yaml has all of its values"),
    "hydra.job.chdir": (False, "paths are those of the working folder"),
    "hydra.verbose": (False, _NO_LOG),
    "hydra/job_logging": ("none", _NO_LOG),
    "hydra/hydra_logging": ("none", _NO_LOG),
    "hydra.sweeper.max_batch_size": (None, "hydra.launcher.n_jobs is how many run at a time"),
}
_OF_A_MULTIRUN = ("hydra.sweep", "hydra.launcher", "hydra.job.config",
                  "hydra/sweeper", "hydra/launcher")  # fmt: skip


class Refusing(Callback):
    """Refuses what Hydra would take without a word, before it makes a folder."""

    @catching
    def on_multirun_start(self, config: DictConfig, **options: Any) -> None:
        if "center_loss" not in config.hydra.sweeper._target_:  # visualize.py has none of ours
            other = "visualize.py draws the runs of runs=FOLDER, train.py has a sweeper of its own"
            raise UsageError(f"-m, hydra.mode and hydra/sweeper have no use here: {other}")
        _refuse(config.hydra)

    @catching
    def on_run_start(self, config: DictConfig, **options: Any) -> None:
        _refuse(config.hydra)
        several = config.hydra.sweeper.get("params")
        if several:  # they would be left out without a word
            keys = ", ".join(several)
            raise UsageError(f"{keys} has several values, which need a multirun: no hydra.mode=RUN")
        for override in config.hydra.overrides.hydra:
            key = override.lstrip("+~").partition("=")[0]
            if key.startswith(_OF_A_MULTIRUN):
                own = "; a single run's folder is output_dir=FOLDER" if key.endswith(".dir") else ""
                raise UsageError(f"{key} is for a multirun of train.py (-m, experiment=…){own}")


def _refuse(hydra: DictConfig) -> None:
    threads = os.environ.get("OMP_NUM_THREADS", "1")
    if not re.fullmatch(r"\s*(0*[1-9]\d*(,\d+)*)?\s*", threads):
        raise UsageError(f"OMP_NUM_THREADS must be an integer ≥ 1, got {threads!r}")
    for key, (value, instead) in _NO_USE.items():
        of_a_group = hydra.runtime.choices.get(key)
        found = of_a_group or OmegaConf.select(hydra, key.removeprefix("hydra."))
        if found not in (value, None):
            raise UsageError(f"{key} has no use here: {instead}")


_PATHS = {
    "data.root", "output_dir", "runs", "out", "hydra.sweep.dir", "hydra.sweep.subdir",
    "hydra.launcher.submitit_folder",
}  # fmt: skip
# of Hydra's grammar: interpolations, and text that needs no quotes
_PLAIN = re.compile(r"\$\{[^{}]*\}|[\w/\\\-+.$%*@?|: \t]", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d[\d_.e+-]*|\.\d[\d_.e+-]*|inf|nan)", re.IGNORECASE)


def _for_hydra(argument: str) -> str:
    """A path with ~, ü or & in quotes, in which alone Hydra takes them, or one like 1.10, a number.

    What has a meaning of its own to Hydra, like a comma, is left for it, or for the user to quote.
    """
    key, _, value = argument.partition("=")
    strange = set(_PLAIN.sub("", value))
    taken = not strange and not _NUMBER.fullmatch(value)
    if key.lstrip("+") not in _PATHS or taken or strange & set("()[]{},='\"") or "\\" in value:
        return argument
    return f'{key}="{value}"'


# where in OmegaConf's classes it happened, and Hydra's pages
_NOISE = re.compile(
    r"^\w+ raised while resolving interpolation: |\s*\b(object|reference)_type=\S+"
    r"|\s*See https?:\S+( for details)?"
)


def _in_other_words(error: Exception) -> str:
    """Hydra's message, but for the two that users meet most, and that mislead or say too much."""
    text = str(error)
    if isinstance(error, OverrideParseException):  # its own points into the parser's grammar
        key, _, value = error.override.partition("=")
        strange = _PLAIN.sub("", value)
        how = "a value is given as KEY=VALUE"
        if strange and re.fullmatch(r"[\w.@/+~-]+", key):
            quote = "'" if '"' in value else '"'
            quoted = shlex.quote(f"{key}={quote}{value}{quote}")
            how = f"{strange[0]} must be in quotes, as in {quoted}"
        return f"{error.override!r} can't be parsed: {how}"
    unknown = re.match(r"Could not override '([^']+)'", text)
    if unknown:  # its own advice, to append the key with a +, would only lead to the next error
        return f"{unknown[1]} is no key here; --help lists the keys, --cfg job shows them all"
    if error.__cause__ is not None and text.startswith("Error merging override"):
        text = f"{text}: {error.__cause__}"
    return _NOISE.sub("", text)


def _report(error: Exception, of_hydra: bool = False) -> int:
    """Print what went wrong, in Hydra's code perhaps, in a line; returns the exit code."""
    if isinstance(error, BrokenPipeError):  # as main has it
        raise error
    if os.environ.get(TRACEBACK) == "1":
        traceback.print_exception(error)
    code, text = 1, reason(error)
    if isinstance(error, UserError):
        code = error.exit_code
    elif isinstance(error, HydraException | OmegaConfBaseException):  # some are OSErrors as well
        code, text = 2, _in_other_words(error)
    elif isinstance(error, OSError):
        if not error.filename and isinstance(error, FileNotFoundError):
            text = "the working folder is gone: change to another one"
    elif of_hydra:  # which hasn't a class of its own for all of them
        code, text = 2, _in_other_words(error)
    elif not is_out_of_memory(error):
        text += f" (unexpected; {TRACEBACK}=1 shows where)"
    with contextlib.suppress(OSError):  # nobody reads it
        print(f"error: {one_line(text)}", file=sys.stderr)
    return code
