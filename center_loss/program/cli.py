"""What both programs do around Hydra: errors in one line, exit codes, folders left clean."""

import contextlib
import functools
import io
import os
import re
import shlex
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from center_loss.base import signals, start
from center_loss.base.errors import UsageError, UserError, is_out_of_memory, one_line, reason

TRACEBACK = "CENTER_LOSS_TRACEBACK"  # set to 1, errors come with their traceback
CONFIGS = Path(__file__).parent.parent.parent / "configs"
MULTIRUN = "multirun.yaml"


def catching(job: Callable) -> Callable:
    """Decorate what Hydra calls: what goes wrong is reported in one line, and ends the program.

    Raised through Hydra, an exception would print lines of Hydra's own.
    """

    @functools.wraps(job)
    def reported(*arguments: Any, **options: Any) -> Any:
        try:
            return job(*arguments, **options)
        except UserError as error:
            sys.exit(_report(error, error.exit_code))
        except OmegaConfBaseException as error:  # an interpolation that leads nowhere, say
            sys.exit(_report(error, 2, _SOURCE.sub("", str(error))))
        except BrokenPipeError:
            raise
        except OSError as error:
            sys.exit(_report(error, 1))
        except Exception as error:
            hint = "" if is_out_of_memory(error) else f" (unexpected; {TRACEBACK}=1 shows where)"
            sys.exit(_report(error, 1, reason(error) + hint))

    return reported


def main(
    program: Callable[[], None],
    multirun: bool = False,
    interrupted: str = "interrupted",
) -> int:
    """Run a Hydra program; return its exit code: 0, 2 for wrong usage, 1 for what else went wrong.

    What a signal ended returns 128 and the signal's number, as a shell has it.

    Args:
        program: a function decorated by ``hydra.main`` over ``catching``.
        multirun: whether -m has a use.
        interrupted: what to say after a signal, if what it interrupted doesn't.
    """
    global _began
    _began = time.time()
    with _leaving_no_trace():
        os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra's own errors come here, unprinted
        start.printable()
        code = 1
        try:
            with signals.raised():
                code = _run(program, multirun)
                sys.stdout.flush()
        except KeyboardInterrupt as error:
            code = getattr(error, "exit_code", 130)
            with contextlib.suppress(OSError):  # the terminal may be gone
                print(f"\n{error}" if str(error) else f"\n{interrupted}", file=sys.stderr)
        except BrokenPipeError:  # whoever reads the output has enough of it
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else Python would flush it once more
        except OSError as error:  # the output can't be written; Hydra makes a multirun's folder
            code = _report(error, 1)
        finally:
            if code != 0:
                _remove_unused()
        return code


@contextlib.contextmanager
def _leaving_no_trace() -> Iterator[None]:
    """What the block changes for the whole process is set back, which may go on: %run train.py."""
    arguments, environment = sys.argv, dict(os.environ)
    streams = [each for each in (sys.stdout, sys.stderr) if isinstance(each, io.TextIOWrapper)]
    handling = [each.errors for each in streams]
    hydra, config = GlobalHydra.instance(), HydraConfig.instance()
    before = hydra.hydra, config.cfg
    hydra.clear()
    sys.argv = list(arguments)
    try:
        yield
    finally:
        sys.argv = arguments
        os.environ.clear()
        os.environ.update(environment)
        for stream, how in zip(streams, handling, strict=True):
            with contextlib.suppress(OSError):  # nobody reads it
                stream.reconfigure(errors=how)
        hydra.hydra, config.cfg = before


def _run(program: Callable[[], None], multirun: bool) -> int:
    try:
        sys.argv[1:] = [
            _for_hydra(each) for each in _renamed(sys.argv[1:]) if each != "experiment=null"
        ]
        _refuse(multirun)
        program()
    except UserError as error:
        return _report(error, error.exit_code)
    except HydraException as error:  # a file of its own that isn't there is an OSError as well
        listed = str(error).startswith("Ambiguous value")
        experiment = any(each.startswith("experiment=") for each in sys.argv)
        if listed and experiment and "-m" not in sys.argv:
            # something else is wrong, so that the experiment's being a multirun wasn't seen
            sys.argv.insert(1, "-m")
            return _run(program, multirun)
        return _report(error, 2, _in_other_words(error))
    except OSError:
        raise
    except Exception as error:  # of Hydra, which hasn't a class of its own for all of them
        return _report(error, 2, _in_other_words(error))
    return 0


_OLDER = {  # names of launchers, and what says the same today
    "hydra/launcher=joblib": ["hydra/launcher=parallel", "hydra.launcher.n_jobs=-1"],
    "hydra/launcher=submitit_slurm": ["hydra/launcher=slurm"],
    "hydra/launcher=submitit_local": ["hydra/launcher=slurm_local"],
}


def _renamed(arguments: list[str]) -> list[str]:
    """With the new name of a launcher for the old one, and a line that says it."""
    for old, new in _OLDER.items():
        if old in arguments:
            print(f"{old} is {' '.join(new)} now")
            at = arguments.index(old)
            return [*arguments[:at], *new, *arguments[at + 1 :]]
    return arguments


# where in OmegaConf's classes it happened
_SOURCE = re.compile(
    r"^\w+ raised while resolving interpolation: |\s*\b(object|reference)_type=\S+"
)


def launchers() -> list[str]:
    """The names of our launchers' configurations, with those that a user has added there."""
    return sorted(each.stem for each in (CONFIGS / "hydra/launcher").glob("*.yaml"))


def _refuse(multirun: bool) -> None:
    """Raise for what Hydra would take without a word, or make folders and files of."""
    threads = os.environ.get("OMP_NUM_THREADS", "1")
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise UserError("the working folder is gone: change to another one") from error
    if not re.fullmatch(r"\s*(0*[1-9]\d*(,\d+)*)?\s*", threads):
        raise UsageError(f"OMP_NUM_THREADS must be an integer ≥ 1, got {threads!r}")
    given = dict(each.lstrip("+").partition("=")[::2] for each in sys.argv[1:] if "=" in each)
    if not multirun and ({"-m", "--multirun"} & set(sys.argv) or "hydra.mode" in given):
        raise UsageError("-m and hydra.mode have no use here: runs=FOLDER draws a folder's runs")
    for key, (value, instead) in _ELSEWHERE.items():
        if given.get(key, str(value)).lower() not in (str(value).lower(), "null"):
            raise UsageError(f"{key} has no use here: {instead}")
    if "hydra.launcher" in given:
        raise UsageError("hydra.launcher holds keys; one is chosen with hydra/launcher=NAME")
    if multirun and given.get("hydra/launcher", "local") not in launchers():
        raise UsageError(f"hydra/launcher must be one of {', '.join(launchers())}")


# Keys of Hydra's that would change nothing here, or leave files about: the one value that they may
# have, and what there is instead.
_NO_LOG = "what there is to say is printed, and a multirun's runs have a train.log"
_ELSEWHERE: dict[str, tuple[Any, str]] = {
    "hydra.run.dir": (
        ".",
        "train.py has output_dir=FOLDER, for several runs hydra.sweep.dir=FOLDER, and visualize.py "
        "has out=FOLDER",
    ),
    "hydra.output_subdir": (None, "a run's config.yaml has all of its values"),
    "hydra.job.chdir": (False, "paths are those of the working folder"),
    "hydra.verbose": (False, _NO_LOG),
    "hydra/job_logging": ("none", _NO_LOG),
    "hydra/hydra_logging": ("none", _NO_LOG),
}
_OF_A_MULTIRUN = ("hydra.sweep", "hydra.sweeper", "hydra.launcher", "hydra.job.config",
                  "hydra/sweeper", "hydra/launcher")  # fmt: skip


def refuse_ignored(hydra: Any, several: bool, program: str = "train.py") -> None:
    """Raise for what is set in Hydra's own part of the configuration, but changes nothing.

    Args:
        hydra: that part, composed: a file may have set it.
        several: whether it is of a multirun.
        program: whose configuration it is.
    """
    for key, (value, instead) in _ELSEWHERE.items():
        found = OmegaConf.select(hydra, key.removeprefix("hydra."))
        if found not in (value, None):
            if key == "hydra.run.dir":  # from a file: else it was refused before Hydra made it
                _remove_made(Path(found))
            raise UsageError(f"{key} has no use here: {instead}")
    if several:  # Hydra sets variables and calls callbacks for jobs that its own launchers run
        if hydra.job.env_set:
            raise UsageError(
                "hydra.job.env_set has no use in a multirun: NAME=VALUE before the command sets a "
                "variable of the environment"
            )
        if hydra.callbacks:
            raise UsageError("hydra.callbacks have no use in a multirun")
        return
    for override in hydra.overrides.hydra:
        key = override.lstrip("+~").partition("=")[0]
        if not any(key == each or key.startswith(f"{each}.") for each in _OF_A_MULTIRUN):
            continue
        if program != "train.py":
            raise UsageError(f"{key} is for train.py, which trains several runs with it")
        folder = "; a single run's folder is output_dir=FOLDER" if key == "hydra.sweep.dir" else ""
        raise UsageError(f"{key} is for a multirun (-m, experiment=…){folder}")
    if hydra.sweeper.params:
        keys = ", ".join(hydra.sweeper.params)
        raise UsageError(f"{keys} has several values, which need a multirun: leave hydra.mode out")


def _remove_made(folder: Path) -> None:
    """Remove a folder that Hydra has just made, with those above it."""
    for each in (folder, *folder.parents):
        with contextlib.suppress(OSError):  # it isn't empty
            if each.stat().st_ctime > _began:
                each.rmdir()


_PATHS = {
    "data.root", "output_dir", "runs", "out", "hydra.sweep.dir", "hydra.sweep.subdir",
    "hydra.launcher.submitit_folder",
}  # fmt: skip
_INTERPOLATION = re.compile(r"\$\{[^{}]*\}")
_PLAIN = re.compile(r"[\w/\\\-+.$%*@?|: \t]", re.ASCII)  # of Hydra's grammar: text without quotes
_NUMBER = re.compile(r"[+-]?(\d[\d_.e+-]*|\.\d[\d_.e+-]*|inf|nan)", re.IGNORECASE)


def _for_hydra(argument: str) -> str:
    """A path with ~, ü or & in quotes, in which alone Hydra takes them, or one like 1.10, a number.

    What has a meaning of its own to Hydra, like a comma, is left for it, or for the user to quote.
    """
    key, _, value = argument.partition("=")
    if key in ("--config-dir", "--config-path"):
        return f"{key}={os.path.expanduser(value)}"
    if key.lstrip("+") not in _PATHS:
        return argument
    strange = set(_PLAIN.sub("", _INTERPOLATION.sub("", value)))
    taken = not strange and not _NUMBER.fullmatch(value)
    if taken or "\\" in value or strange & set("()[]{},='\""):
        return argument
    return f'{key}="{value}"'


def _in_other_words(error: Exception) -> str:
    """Hydra's message, but for the three that users meet most, and that mislead or say too much."""
    text = str(error)
    if isinstance(error, OverrideParseException):  # its own points into the parser's grammar
        key, _, value = error.override.partition("=")
        strange = _PLAIN.sub("", _INTERPOLATION.sub("", value))
        how = "a value is given as KEY=VALUE"
        if strange and re.fullmatch(r"[\w.@/+~-]+", key):
            quote = "'" if '"' in value else '"'
            quoted = shlex.quote(f"{key}={quote}{value}{quote}")
            how = f"{strange[0]} must be in quotes, as in {quoted}"
        return f"{error.override!r} can't be parsed: {how}"
    unknown = re.match(r"Could not override '([^']+)'", text)
    if unknown:  # its own advice, to append the key with a +, would only lead to the next error
        return f"{unknown[1]} is no key here; --help lists the keys, --cfg job shows them all"
    several = re.match(r"Ambiguous value for argument '(.*)'$", text, re.MULTILINE)
    if several:  # its own advice is to make a list of it, or a text
        return f"{several[1]} has several values: they need -m before them, or quotes to be one"
    if error.__cause__ is not None and text.startswith("Error merging override"):
        text = f"{text}: {error.__cause__}"
    return re.sub(r"\s*See https?:\S+( for details)?", "", _SOURCE.sub("", text))


_began = 0.0  # when main did
_unused: list[Path] = []  # what to remove if nothing came of the program, the innermost first


@contextlib.contextmanager
def remove_if_unused(folder: Path) -> Iterator[None]:
    """The block makes the folder of a multirun; should this program fail before ``keep_folders``,
    it is removed, with those above it, unless they were there before, and Hydra's multirun.yaml.
    """
    new = [each for each in (folder, *folder.parents) if not each.exists()]
    file = [] if (folder / MULTIRUN).exists() else [folder / MULTIRUN]
    yield
    _unused[:] = file + new


def keep_folders() -> None:
    _unused.clear()


def _remove_unused() -> None:
    for path in _unused:
        with contextlib.suppress(OSError):  # it isn't there, or isn't empty
            path.unlink() if path.name == MULTIRUN else path.rmdir()
    _unused.clear()


def _report(error: BaseException, code: int, text: str = "") -> int:
    """Print the error, in these words or in its own; returns the exit code."""
    if os.environ.get(TRACEBACK) == "1":
        traceback.print_exception(error)
    with contextlib.suppress(OSError):  # nobody reads it
        print(f"error: {one_line(text or error)}", file=sys.stderr)
    return code
