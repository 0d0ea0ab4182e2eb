"""What the user is told in one line. Anything else that is raised is a bug of ours."""


class UserError(Exception):
    """Something outside of the program stands in the way: a file, a disk, a device. Exit code 1."""

    exit_code = 1


class UsageError(UserError):
    """A value on the command line or in a config is wrong. Exit code 2."""

    exit_code = 2
