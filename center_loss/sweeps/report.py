"""What a sweep says at its end."""

import sys
from collections.abc import Sequence
from pathlib import Path

from center_loss.base.errors import UsageError, UserError
from center_loss.sweeps import summary
from center_loss.sweeps.jobs import Job, Status


def report(jobs: Sequence[Job], root: Path) -> None:
    """Write the summary of all runs in ``root``, print these jobs' part of it, and what failed."""
    rows = summary.rows(root, jobs)
    paths = summary.write(root, rows)
    folders = {str(job.folder.relative_to(root)) for job in jobs if job.status != "refused"}
    own = [row for row in rows if row["folder"] in folders or row["status"] == "refused"]
    print(f"\n{summary.table(own)}\n")
    if len(rows) > len(own):
        print(f"{len(rows) - len(own)} more runs lie there; the summary has them too")
    for path in paths:
        print(path)
    tell_reasons(jobs, "refused")
    tell_reasons(jobs, "failed")


def tell_reasons(jobs: Sequence[Job], status: Status) -> None:
    """A line for each reason why jobs failed, or were refused."""
    reasons: dict[str, list[str]] = {}
    for job in jobs:
        if job.status == status:
            reasons.setdefault(job.reason, []).append(job.label)
    for reason, labels in reasons.items():
        which = ", ".join(labels[:3]) + (f" and {len(labels) - 3} more" if len(labels) > 3 else "")
        print(f"{status}: {which}: {reason}", file=sys.stderr)


def failure(jobs: Sequence[Job]) -> UserError | None:
    """What a sweep's failures come to, with the highest of their exit codes; None without any."""
    bad = [job for job in jobs if job.status in ("refused", "failed")]
    if not bad:
        return None
    kind = UsageError if any(job.code == UsageError.exit_code for job in bad) else UserError
    refused = {job.reason for job in bad if job.status == "refused"}
    if all(job.status == "refused" for job in jobs) and len(refused) == 1:
        return kind(refused.pop())
    what = "failed or were refused" if refused else "failed"
    return kind(f"{len(bad)} of {len(jobs)} runs {what}, see above")
