"""What both programs do around Hydra: errors in one line, exit codes, folders left clean."""

import argparse
import contextlib
import functools
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from hydra._internal.utils import get_args_parser
from hydra.errors import HydraException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from center_loss import signals
from center_loss.errors import UsageError, UserError, is_out_of_memory, one_line, reason

TRACEBACK = "CENTER_LOSS_TRACEBACK"  # set to 1, errors come with their traceback
CONFIGS = Path(__file__).parent.parent / "configs"
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
    # Hydra's parser prints seven lines of usage
    argparse.ArgumentParser.error = _usage_error  # type: ignore[assignment, method-assign]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra's own errors come here instead of being printed
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # λ, where the encoding has none
    code = 1
    try:
        with signals.raised():
            code = _run(program, multirun)
            if sys.stdout is not None:  # it may be closed
                sys.stdout.flush()
    except KeyboardInterrupt as error:
        code = getattr(error, "exit_code", 130)
        with contextlib.suppress(OSError):  # the terminal may be gone
            print(f"\n{error}" if str(error) else f"\n{interrupted}", file=sys.stderr)
    except BrokenPipeError:  # whoever reads the output has enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else Python would flush it once more
    except OSError as error:  # the output can't be written; Hydra makes a multirun's folder itself
        code = _report(error, 1)
    finally:
        if code != 0:
            _remove_unused()
    return code


def _run(program: Callable[[], None], multirun: bool) -> int:
    try:
        _refuse(multirun)
        program()
    except UserError as error:
        return _report(error, error.exit_code)
    except OverrideParseException as error:
        why = one_line(_in_other_words(error)).replace("<EOF>", "its end")
        hint = "a value is given as KEY=VALUE, without spaces, in quotes if it has , = ( [ or {"
        return _report(error, 2, f"{error.override!r} can't be parsed ({why}): {hint}")
    except (HydraException, OmegaConfBaseException) as error:
        experiment = any(each.startswith("experiment=") for each in sys.argv)
        if experiment and str(error).startswith("Ambiguous value") and "-m" not in sys.argv:
            # something else is wrong, so that the experiment's being a multirun wasn't seen
            sys.argv.insert(1, "-m")
            return _run(program, multirun)
        return _report(error, 2, _in_other_words(error))
    except OSError:
        raise
    except Exception as error:  # of Hydra, which hasn't a class of its own for all of them
        return _report(error, 2, f"{_in_other_words(error)}: {' '.join(sys.argv[1:])}")
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
    if (
        multirun
        and "hydra.sweep.dir" in given
        and not (flags.multirun or given.keys() & {"experiment", "hydra.mode"})
    ):
        raise UsageError(
            "hydra.sweep.dir is for a multirun (-m, experiment=…); a single run's folder is "
            "output_dir=FOLDER"
        )
    if multirun and given.get("hydra/launcher", "local") not in launchers():
        raise UsageError(f"hydra/launcher must be one of {', '.join(launchers())}")


def _in_other_words(error: Exception) -> str:
    """Hydra's message, or a better one where its own misleads or says nothing."""
    text = str(error)
    # Hydra's own advice, to append the key with a +, would only lead to the next error
    unknown = re.match(r"Could not override '([^']+)'", text)
    if unknown and not unknown[1].startswith("hydra.launcher."):
        return f"{unknown[1]} is no key here; --help lists the keys, --cfg job shows them all"
    unknown = unknown or re.search(r"got an unexpected keyword argument '(\w+)'", text)
    if unknown:
        name = unknown[1].removeprefix("hydra.launcher.")
        return f"hydra.launcher.{name} is no key of this launcher: see configs/hydra/launcher"
    missing = re.search(r"missing \d+ required \w+ arguments?: '(\w+)'", text)
    if missing:
        return f"hydra.launcher.{missing[1]} is missing"
    if text.startswith("Only one of --run, --multirun"):
        return "--cfg shows the values of one run: leave out -m, experiment= and lists of values"
    if text.startswith("Ambiguous value for argument"):
        several = re.search(r"for argument '([^']*)'", text)
        return f"{several[1] if several else 'a key'} has several values: they need -m before them"
    if text.startswith("Config group override must be"):
        for group in (each for each in CONFIGS.iterdir() if each.is_dir()):
            given = [each for each in sys.argv if re.match(rf"\+*{group.name}=", each)]
            if given and group.name != "hydra":
                names = ", ".join(sorted(each.stem for each in group.glob("*.yaml")))
                return f"{group.name} must be one of {names}, got {given[-1].partition('=')[2]}"
        return f"a group takes the name of one of its files: {' '.join(sys.argv[1:])}"
    if text.startswith("Error merging override") and error.__cause__ is not None:
        text = f"{text.removeprefix('Error merging override ')}: {error.__cause__}"
    text = re.sub(r"^\w+ raised while resolving interpolation: ", "", text)
    if text.startswith("BasicSweeper does not support"):
        text += f": {' '.join(sys.argv[1:])}"
    key = re.search(r"full_key: (\S+)", text)
    if key and key[1] not in text[: key.start()]:
        text = f"{key[1]}: {text}"
    # where in Hydra's own files and classes it happened
    text = re.sub(r"\s*\b(full_key|object_type|reference_type)[:=] ?\S+", "", text)
    return re.sub(r"^\w+Exception: |\s*See https?:\S+( for details)?", "", text, flags=re.M)


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
    raise UsageError(f"{message}; a value is given as KEY=VALUE, and -m comes before all of them")


def _report(error: BaseException, code: int, text: str = "") -> int:
    """Print the error, in these words or in its own; returns the exit code."""
    if os.environ.get(TRACEBACK) == "1":
        traceback.print_exception(error)
    with contextlib.suppress(OSError):  # nobody reads it
        print(f"error: {one_line(text or error)}", file=sys.stderr)
    return code
