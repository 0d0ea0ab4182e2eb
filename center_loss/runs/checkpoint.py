"""The checkpoint that a run goes on from, and the one before it."""

import contextlib
import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from center_loss.runs import files

CHECKPOINT_KEYS = ["recipe", "conditions", "trainer", "results", "seconds"]
CHECKPOINT_VERSION = 3  # another one when the meaning of a key changes


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write ``checkpoint.pt``, and keep the one that was there as ``checkpoint.previous.pt``."""
    import torch

    buffer = io.BytesIO()  # given a file, torch.save makes a RuntimeError of a full disk
    torch.save({"version": CHECKPOINT_VERSION, **state}, buffer)
    content, path = _sealed(buffer.getvalue()), folder / files.CHECKPOINT
    # a damaged one doesn't take a good one's place
    whole = path.is_file() and _is_sealed(path.read_bytes())
    kept = folder / files.PREVIOUS if whole else None
    files.write_file(path, lambda file: file.write(content), kept)


def has_checkpoint(folder: Path) -> bool:
    return any((folder / name).exists() for name in (files.CHECKPOINT, files.PREVIOUS))


def load_checkpoint(folder: Path, say: Callable[[str], None] = print) -> dict[str, Any]:
    """The state in ``checkpoint.pt``, or if that is damaged in ``checkpoint.previous.pt``.

    Tensors are on the CPU.

    Args:
        folder: the run folder.
        say: called with a line of text if it isn't the last checkpoint.

    Raises:
        UserError: none of them is whole.
    """
    try:
        return files.read(folder / files.CHECKPOINT, _parsed_checkpoint)
    except files.Damaged as error:
        problem = error
    with contextlib.suppress(files.Damaged):
        state = files.read(folder / files.PREVIOUS, _parsed_checkpoint)
        what = str(problem).removesuffix(files.TRAIN_AGAIN)
        say(f"{what}: taking the one before, {files.PREVIOUS}")
        return state
    raise problem


def _parsed_checkpoint(content: bytes) -> dict[str, Any]:
    import torch

    # weights_only: a checkpoint from someone else can't run code
    if not _is_sealed(content):
        raise ValueError("wrong checksum")
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    files.require(state, ["version", *CHECKPOINT_KEYS])
    if state["version"] != CHECKPOINT_VERSION:
        raise ValueError(f"version {state['version']}, this is for {CHECKPOINT_VERSION}")
    return state


def _sealed(archive: bytes) -> bytes:
    """A zip archive, which torch.save's files are, with its SHA-256 for a comment."""
    digest_size = 64
    archive = archive[:-2] + digest_size.to_bytes(2, "little")  # the comment's length comes last
    return archive + hashlib.sha256(archive).hexdigest().encode()


def _is_sealed(content: bytes) -> bool:
    """Whether the last 64 bytes are the checksum of what comes before."""
    return hashlib.sha256(content[:-64]).hexdigest().encode() == content[-64:]
