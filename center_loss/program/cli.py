"""What both programs do around Hydra: errors in one line, exit codes, folders left clean."""

import argparse
import contextlib
import functools
import io
import os
import re
import shlex
import sys
import time
import traceback
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, OverrideParseException
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
            sys.exit(_report(error, 2, _in_other_words(error)))
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
        # Hydra's parser prints seven lines of usage
        argparse.ArgumentParser.error = _usage_error  # type: ignore[assignment, method-assign]
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
    arguments, environment, error = sys.argv, dict(os.environ), argparse.ArgumentParser.error
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
        argparse.ArgumentParser.error = error  # type: ignore[method-assign]
        os.environ.clear()
        os.environ.update(environment)
        for stream, how in zip(streams, handling, strict=True):
            with contextlib.suppress(OSError):  # nobody reads it
                stream.reconfigure(errors=how)
        hydra.hydra, config.cfg = before


def _run(program: Callable[[], None], multirun: bool) -> int:
    try:
        sys.argv[1:] = [_for_hydra(each) for each in sys.argv[1:] if not _NOTHING.fullmatch(each)]
        _refuse(multirun)
        program()
    except UserError as error:
        return _report(error, error.exit_code)
    except OverrideParseException as error:
        return _report(error, 2, f"{error.override!r} can't be parsed: {_why_not_parsed(error)}")
    except (HydraException, OmegaConfBaseException) as error:
        experiment = any(each.startswith("experiment=") for each in sys.argv)
        if experiment and str(error).startswith("Ambiguous value") and "-m" not in sys.argv:
            # something else is wrong, so that the experiment's being a multirun wasn't seen
            sys.argv.insert(1, "-m")
            return _run(program, multirun)
        return _report(error, 2, _in_other_words(error, multirun))
    except OSError:
        raise
    except Exception as error:  # of Hydra, which hasn't a class of its own for all of them
        return _report(error, 2, f"{_in_other_words(error, multirun)}: {' '.join(sys.argv[1:])}")
    return 0


def launchers() -> list[str]:
    """The names of our launchers' configurations, with those that a user has added there."""
    return sorted(each.stem for each in (CONFIGS / "hydra/launcher").glob("*.yaml"))


def _refuse(multirun: bool) -> None:
    """Raise for what Hydra would take without a word, or with a traceback."""
    threads = os.environ.get("OMP_NUM_THREADS", "1")
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise UserError("the working folder is gone: change to another one") from error
    if not re.fullmatch(r"\s*(0*[1-9]\d*(,\d+)*)?\s*", threads):
        raise UsageError(f"OMP_NUM_THREADS must be an integer ≥ 1, got {threads!r}")
    flags = get_args_parser().parse_args()
    if flags.experimental_rerun is not None:  # it unpickles whatever it is given
        raise UsageError(
            "--experimental-rerun has no use here: the run's own command goes on with it"
        )
    given = dict(each.lstrip("+").partition("=")[::2] for each in flags.overrides)
    if not multirun and (flags.multirun or "hydra.mode" in given):
        raise UsageError("-m and hydra.mode have no use here: runs=FOLDER draws a folder's runs")
    if flags.multirun and given.get("hydra.mode", "").upper() == "RUN":
        raise UsageError("-m is for several runs, hydra.mode=RUN for one: leave one of both out")
    for key, value in given.items():  # Hydra makes folders and files of these before a run begins
        for ignored, (values, instead) in _IGNORED.items():
            if (key == ignored or key.startswith(f"{ignored}.")) and re.fullmatch(values, value):
                raise UsageError(f"{key} has no use here: {instead}")
    if "hydra.launcher" in given:
        raise UsageError("hydra.launcher holds keys; one is chosen with hydra/launcher=NAME")
    if multirun and given.get("hydra/launcher", "local") not in launchers():
        raise UsageError(f"hydra/launcher must be one of {', '.join(launchers())}")


# Keys of Hydra's that would change nothing here, or nothing but leave files about: a pattern of the
# values that are refused, and what there is instead.
_FOLDERS = (
    "train.py has output_dir=FOLDER, for several runs hydra.sweep.dir=FOLDER, and visualize.py "
    "has out=FOLDER"
)
_NO_LOG = "what there is to say is printed, and a multirun's runs have a train.log"
_VALUES = "a run's config.yaml has all of its values"
_ENVIRONMENT = "NAME=VALUE before the command sets a variable of the environment"
_BY_ITSELF = "Hydra sets it by itself"
_IGNORED = {
    "hydra.run.dir": (r"(?!\.$).*", _FOLDERS),
    "hydra.output_subdir": (r"(?!null$).*", _VALUES),
    "hydra/job_logging": ("default|stdout", _NO_LOG),
    "hydra/hydra_logging": ("default|hydra_debug", _NO_LOG),
    "hydra.job_logging": (".*", _NO_LOG),
    "hydra.hydra_logging": (".*", _NO_LOG),
    "hydra.verbose": ("(?!(?i:false)$).*", _NO_LOG),
    "hydra.env": (".*", _ENVIRONMENT),
    "hydra.job.env_copy": (".*", _ENVIRONMENT),
    "hydra.job.id": (".*", _BY_ITSELF),
    "hydra.job.num": (".*", _BY_ITSELF),
    "hydra.job.config_name": (".*", _BY_ITSELF),
    "hydra.job.override_dirname": (".*", _BY_ITSELF),
    "hydra.overrides": (".*", _BY_ITSELF),
    "hydra.runtime": (".*", _BY_ITSELF),
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
    no_use = "has no use here"
    if hydra.run.dir != ".":
        _remove_made(Path(hydra.run.dir))  # from a file: else it was refused before
        raise UsageError(f"hydra.run.dir {no_use}: {_FOLDERS}")
    if hydra.output_subdir is not None:
        raise UsageError(f"hydra.output_subdir {no_use}: {_VALUES}")
    if hydra.job.chdir:
        raise UsageError(f"hydra.job.chdir {no_use}: paths are those of the working folder")
    if several:
        if hydra.job.env_set:
            raise UsageError(f"hydra.job.env_set has no use in a multirun: {_ENVIRONMENT}")
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


# Hydra would say that it can't be null, though it is
_NOTHING = re.compile(r"experiment=null", re.IGNORECASE)
_PATHS = {
    "data.root", "output_dir", "runs", "out", "hydra.sweep.dir", "hydra.sweep.subdir",
    "hydra.launcher.submitit_folder",
}  # fmt: skip
_INTERPOLATION = re.compile(r"\$\{[^{}]*\}")
_PLAIN = re.compile(r"[\w/\\\-+.$%*@?|: \t]", re.ASCII)  # of Hydra's grammar: text without quotes
_NUMBER = re.compile(r"[+-]?(\d[\d_.e+-]*|\.\d[\d_.e+-]*|inf|nan)", re.IGNORECASE)
_PAIRS = {"(": ")", "[": "]", "{": "}", '"': '"', "'": "'"}


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


def _why_not_parsed(error: OverrideParseException) -> str:
    key, equals, value = error.override.partition("=")
    text = one_line(str(error))
    if not equals:
        return "a value is given as KEY=VALUE"
    if not re.fullmatch(r"[+~]*[\w$.@/-]*", key, re.ASCII):
        return f"{key!r} is no key; a value is given as KEY=VALUE, without spaces around the ="
    strange = _PLAIN.sub("", _INTERPOLATION.sub("", value))
    function = re.search(r"while evaluating (.*?)(, See https?:.*)?$", text)  # one of Hydra's
    if function and key not in _PATHS:
        return function[1]
    return _must_be_quoted(key, value, strange[0]) if strange else "a value is given as KEY=VALUE"


def _must_be_quoted(key: str, value: str, character: str) -> str:
    """Says how to give a value with this character."""
    quote = "'" if '"' in value else '"'
    how = f"must be in quotes, as in {shlex.quote(f'{key}={quote}{value}{quote}')}"
    other = _PAIRS.get(character, "")
    if other and value.count(other) < 1 + (other == character):
        how = f"lacks its {other} (or, as text, {how})"
    return f"{character} ({unicodedata.name(character, 'a character').lower()}) {how}"


def _in_other_words(error: Exception, multirun: bool = True) -> str:
    """Hydra's message, or a better one where its own misleads or says nothing."""
    text = str(error)
    # Hydra's own advice, to append the key with a +, would only lead to the next error
    unknown = re.match(r"Could not override '([^']+)'", text)
    if unknown and unknown[1].startswith(("hydra.job.env_set", "hydra.callbacks")):
        return f"{unknown[1]}: a + before it adds what isn't there yet"
    if unknown and not unknown[1].startswith("hydra.launcher."):
        return f"{unknown[1]} is no key here; --help lists the keys, --cfg job shows them all"
    unknown = unknown or re.search(r"got an unexpected keyword argument '(\w+)'", text)
    if unknown and not multirun:
        return f"{unknown[1]} is for train.py, which trains several runs with it"
    if unknown:
        name = unknown[1].removeprefix("hydra.launcher.")
        return f"hydra.launcher.{name} is no key of this launcher: see configs/hydra/launcher"
    missing = re.search(r"missing \d+ required \w+ arguments?: '(\w+)'", text)
    if missing:
        return f"hydra.launcher.{missing[1]} is missing"
    if text.startswith("Only one of --run, --multirun") and {"--cfg", "-c"} & set(sys.argv):
        return "--cfg shows the values of one run: leave out -m, experiment= and lists of values"
    if text.startswith("Ambiguous value for argument"):
        several = re.search(r"for argument '(.*)'$", text, re.MULTILINE)
        given = several[1] if several else "a key"
        key, _, value = given.partition("=")
        if key in _PATHS:
            return f"{given}: {_must_be_quoted(key, value, ',')}"
        if not multirun:
            return f"{given} has several values, of which only one is taken"
        return f"{given} has several values: they need -m before them"
    if text.startswith("Sweep parameters") and not multirun:
        return f"{text.split(chr(39))[1]} has several values, of which only one is taken"
    if text.startswith("Config group override must be"):
        for group in (each for each in CONFIGS.iterdir() if each.is_dir()):
            given = [each for each in sys.argv if re.match(rf"\+*{group.name}=", each)]
            names = sorted(each.stem for each in group.glob("*.yaml"))
            value = given[-1].partition("=")[2] if given else ""
            if not set(value.split(",")) <= {"", *names}:
                return f"{group.name} must be one of {', '.join(names)}, got {value}"
        return f"a group takes the name of one of its files: {' '.join(sys.argv[1:])}"
    if text.startswith("Error merging override") and error.__cause__ is not None:
        text = f"{text.removeprefix('Error merging override ')}: {error.__cause__}"
    text = re.sub(r"^\w+ raised while resolving interpolation: ", "", text)
    if text.startswith("BasicSweeper does not support"):  # interval(…)
        return f"of an interval take values, or range(…): {' '.join(sys.argv[1:])}"
    key = re.search(r"full_key: (\S+)", text)
    if key and key[1] not in text[: key.start()]:
        text = f"{key[1]}: {text}"
    # where in Hydra's own files and classes it happened
    text = re.sub(r"\s*\b(full_key|object_type|reference_type)[:=] ?\S+", "", text)
    return re.sub(r"^\w+Exception: |\s*See https?:\S+( for details)?", "", text, flags=re.M)


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


def _usage_error(parser: argparse.ArgumentParser, message: str) -> NoReturn:
    raise UsageError(
        f"{message}; a value is given as KEY=VALUE, and -m comes before all of them, as options do"
    )


def _report(error: BaseException, code: int, text: str = "") -> int:
    """Print the error, in these words or in its own; returns the exit code."""
    if os.environ.get(TRACEBACK) == "1":
        traceback.print_exception(error)
    with contextlib.suppress(OSError):  # nobody reads it
        print(f"error: {one_line(text or error)}", file=sys.stderr)
    return code
