"""What the user is told in one line. Anything else that is raised is a bug of ours."""


class UserError(Exception):
    """Something outside of the program stands in the way: a file, a disk, a device. Exit code 1."""

    exit_code = 1


class UsageError(UserError):
    """A value on the command line or in a config is wrong. Exit code 2."""

    exit_code = 2


def reason(error: Exception) -> str:
    """Why something failed, in one line."""
    if is_out_of_memory(error):
        return "out of memory: lower train.batch_size or model.feature_dim, or free some"
    if isinstance(error, UserError | OSError):
        return one_line(error)
    return one_line(f"{type(error).__name__}: {error}")  # a bug


def is_out_of_memory(error: Exception) -> bool:
    # PyTorch has a class of its own for GPUs alone, and it isn't to be imported here
    texts = ("DefaultCPUAllocator: can't allocate memory", "out of memory")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in texts)
    )


def one_line(error: BaseException | str) -> str:
    """The text of an error on one line. Hydra's have several, with lists one item a line."""
    given = str(error)
    if isinstance(error, OSError) and error.filename:
        given = f"{error.filename} can't be used: {error.strerror}"
    lines = [line.strip() for line in given.splitlines() if line.strip()]
    if "Config search path:" in lines:  # where Hydra looks for its files: noise to a user
        lines = lines[: lines.index("Config search path:")]
    text = ""
    for line in lines:
        text += ("" if not text else " " if text[-1] in ":,.;" else ", ") + line
    # a file's name, say, may hold what a terminal would obey
    return "".join(c if c.isprintable() else "?" for c in text) or type(error).__name__
