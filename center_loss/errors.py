"""What the user is told in one line. Anything else that is raised is a bug of ours."""


class UserError(Exception):
    """Something outside of the program stands in the way: a file, a disk, a device. Exit code 1."""

    exit_code = 1


class UsageError(UserError):
    """A value on the command line or in a config is wrong. Exit code 2."""

    exit_code = 2


def one_line(error: BaseException | str) -> str:
    """The text of an error on one line. Hydra's have several, with lists one item a line."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename} can't be used: {error.strerror}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if "Config search path:" in lines:  # where Hydra looks for its files: noise to a user
        lines = lines[: lines.index("Config search path:")]
    text = ""
    for line in lines:
        text += ("" if not text else " " if text[-1] in ":,.;" else ", ") + line
    return text or type(error).__name__
