"""The checkpoint that a run goes on from, and the one before it."""

import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from center_loss.runs.files import (
    CHECKPOINT,
    PREVIOUS,
    TRAIN_AGAIN,
    Damaged,
    read,
    require,
    write_file,
)

CHECKPOINT_KEYS = ["recipe", "conditions", "trainer", "results", "seconds"]
CHECKPOINT_VERSION = 3  # another one when the meaning of a key changes


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write ``checkpoint.pt``, and keep the one that was there as ``checkpoint.previous.pt``."""
    import torch

    buffer = io.BytesIO()  # given a file, torch.save makes a RuntimeError of a full disk
    torch.save({"version": CHECKPOINT_VERSION, **state}, buffer)
    content = _sealed(buffer.getvalue())
    path = folder / CHECKPOINT

    def write(file: IO[bytes]) -> None:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        # not before the new one is whole, and a damaged one doesn't take a good one's place
        if path.is_file() and _is_sealed(path.read_bytes()):
            os.replace(path, folder / PREVIOUS)

    write_file(path, write)


def has_checkpoint(folder: Path) -> bool:
    return any((folder / name).exists() for name in (CHECKPOINT, PREVIOUS))


def load_checkpoint(folder: Path, say: Callable[[str], None] = print) -> dict[str, Any]:
    """The state in ``checkpoint.pt``, or if that is damaged in ``checkpoint.previous.pt``.

    Tensors are on the CPU.

    Args:
        folder: the run folder.
        say: called with a line of text if it isn't the last checkpoint.

    Raises:
        UserError: none of them is whole.
    """
    problems: list[Damaged] = []
    for name in (CHECKPOINT, PREVIOUS):
        try:
            state = read(folder / name, _parsed_checkpoint)
        except Damaged as problem:
            problems.append(problem)
            continue
        if problems:
            say(f"{str(problems[0]).removesuffix(TRAIN_AGAIN)}: taking the one before, {name}")
        return state
    raise problems[0]


def _parsed_checkpoint(content: bytes) -> dict[str, Any]:
    import torch

    # weights_only: a checkpoint from someone else can't run code
    if not _is_sealed(content):
        raise ValueError("wrong checksum")
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    require(state, ["version"])
    if state["version"] != CHECKPOINT_VERSION:
        raise ValueError(f"version {state['version']}, this is for {CHECKPOINT_VERSION}")
    require(state, CHECKPOINT_KEYS)
    return state


def _sealed(archive: bytes) -> bytes:
    """A zip archive, which torch.save's files are, with its SHA-256 for a comment."""
    digest_size = 64
    archive = archive[:-2] + digest_size.to_bytes(2, "little")  # the comment's length comes last
    return archive + hashlib.sha256(archive).hexdigest().encode()


def _is_sealed(content: bytes) -> bool:
    """Whether the last 64 bytes are the checksum of what comes before."""
    return hashlib.sha256(content[:-64]).hexdigest().encode() == content[-64:]
