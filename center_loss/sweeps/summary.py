"""A folder of runs as a table: a row a run, and mean and spread over seeds; what failed there."""

import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from center_loss.base.errors import UsageError, UserError
from center_loss.job import Place
from center_loss.runs.files import write_csv
from center_loss.sweeps.jobs import Job, Status

SUMMARY = "summary.csv"
OVER_SEEDS = "summary_over_seeds.csv"
KEYS = ["recipe", "loss.lam", "loss.alpha", "seed"]  # columns in every summary
METRICS = [
    "test_accuracy", "test_intra_inter_ratio", "test_lowest_recall", "train_accuracy",
    "train_intra_inter_ratio", "center_drift", "wall_seconds",
]  # fmt: skip
SHORT = {
    "loss.lam": "λ", "loss.alpha": "α", "test_accuracy": "test accuracy",
    "test_intra_inter_ratio": "intra/inter", "test_lowest_recall": "lowest recall",
    "wall_seconds": "seconds",
}  # fmt: skip
PRINTED = ["test_accuracy", "test_intra_inter_ratio", "test_lowest_recall", "wall_seconds"]
FORMATS = {"accuracy": ".2%", "recall": ".2%", "ratio": ".3f", "seconds": ".0f"}  # by last words

Row = dict[str, Any]  # status, the keys that tell the runs apart, the metrics, reason, folder
_OUTCOME = {"status", "reason", "folder", *METRICS}


def rows(root: Path, jobs: Iterable[Job] = ()) -> list[Row]:
    """A row for each run in a folder, and for each job that has left nothing there.

    ``status`` is ``finished``, ``failed``, ``damaged``, ``unfinished`` (interrupted, or still
    training), or a job's ``refused`` or ``waiting``; ``folder`` is relative to ``root``. α is None
    at λ = 0.
    """
    from center_loss.runs.load import Unfinished, find_runs  # imports torch

    # by its folder what was trained, and what became of it
    found: dict[Path | int, tuple[dict[str, Any], Row]] = {}
    finished, others = find_runs(root)
    for one in finished:
        found[one.folder] = one.recipe.values(), {**_metrics(one.metrics), "status": "finished"}
    unfinished: list[Unfinished | Job] = [*others, *jobs]
    for each in unfinished:
        config = each.values if isinstance(each, Job) else each.config or {}
        entry = _values(config), {"status": each.status, "reason": each.reason}
        if each.status == "refused":  # what lies in its folder, if anything, is another run
            found[id(each)] = entry
        elif each.status == "failed" or each.folder not in found:
            found[each.folder] = entry
    configs = [config for config, _ in found.values()]
    keys = KEYS + sorted(
        key
        for key in set().union(*configs) - set(KEYS)
        if len({_order(config[key]) for config in configs if key in config}) > 1
    )
    result = [
        {
            "status": row["status"],
            **{key: config.get(key) for key in keys},
            **{name: row.get(name) for name in METRICS},
            "reason": row.get("reason", ""),
            "folder": str(folder.relative_to(root)) if isinstance(folder, Path) else "",
        }
        for folder, (config, row) in found.items()
    ]
    return sorted(result, key=lambda row: [_order(row[key]) for key in keys])


def over_seeds(rows: Sequence[Row]) -> list[Row]:
    """Mean and standard deviation over the seeds of finished runs that differ in nothing else.

    ``runs`` is the number of seeds, ``seeds`` that of those finished. Each metric has two columns,
    ``…_mean`` and ``…_std``, the latter None for a single seed.
    """
    from center_loss.metrics import mean_and_std  # imports torch

    groups: dict[tuple, list[Row]] = {}
    keys = [key for key in (rows[0] if rows else {}) if key not in _OUTCOME and key != "seed"]
    for row in rows:
        groups.setdefault(tuple(str(row[key]) for key in keys), []).append(row)
    result = []
    for group in groups.values():
        # a seed counts once, also where its run lies in two folders
        finished = {row["seed"]: row for row in group if row["status"] == "finished"}
        summed: Row = {key: group[0][key] for key in keys}
        summed |= {"runs": len({row["seed"] for row in group}), "seeds": len(finished)}
        for name in METRICS:
            values = [row[name] for row in finished.values() if row[name] is not None]
            summed[f"{name}_mean"], summed[f"{name}_std"] = mean_and_std(values)
        result.append(summed)
    return result


def refuse_others(root: Path) -> None:
    """Raise if a table of somebody's own has the name of a summary, which is written at the end."""
    for name, first in ((SUMMARY, "status,"), (OVER_SEEDS, "recipe,")):
        path = root / name
        if path.exists() and not (path.is_file() and path.read_bytes().startswith(first.encode())):
            raise UserError(f"{path} isn't a sweep's: give another folder with hydra.sweep.dir")


def write(root: Path, rows: Sequence[Row]) -> list[Path]:
    """Write ``summary.csv`` and, where there are several seeds, ``summary_over_seeds.csv``."""
    tables = {SUMMARY: rows}
    if len({row["seed"] for row in rows}) > 1:
        tables[OVER_SEEDS] = over_seeds(rows)
    for name, table in tables.items():
        write_csv(root / name, table)
    return [root / name for name in tables]


def table(rows: Sequence[Row]) -> str:
    """The rows as text for a terminal: over the seeds where there are several, else a run a row."""
    differ = [key for key in rows[0] if len({str(row[key]) for row in rows}) > 1]
    keys = [key for key in rows[0] if key in ("loss.lam", "loss.alpha", *differ)]
    keys = [key for key in keys if key not in _OUTCOME and key != "seed"]
    head = [*keys, "seeds" if "seed" in differ else "status", *PRINTED]
    lines = [[SHORT.get(name, name) for name in head]]
    for row in over_seeds(rows) if "seed" in differ else rows:
        lines.append([_cell(row, name) for name in head])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )


def report(jobs: Sequence[Job], root: Path) -> None:
    """Write the summary of all runs in ``root``, print these jobs' part of it, and what failed."""
    every = rows(root, jobs)
    paths = write(root, every)
    folders = {str(job.folder.relative_to(root)) for job in jobs if job.status != "refused"}
    own = [row for row in every if row["folder"] in folders or row["status"] == "refused"]
    print(f"\n{table(own)}\n")
    if len(every) > len(own):
        print(f"{len(every) - len(own)} more runs lie there; the summary has them too")
    print(*paths, sep="\n")
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


def _values(config: dict[str, Any]) -> dict[str, Any]:
    """What is trained, by the configuration's keys; of a wrong configuration what can be told."""
    from center_loss.recipe import Recipe, flat  # imports torch

    try:
        return Recipe.of(config).values()
    except UsageError:
        elsewhere = {"data.root", *(each.name for each in fields(Place))}
        return {key: value for key, value in flat(config).items() if key not in elsewhere}


def _metrics(metrics: dict[str, Any]) -> Row:
    recall = [value for value in metrics.get("test_recall") or [] if value is not None]
    return metrics | {"test_lowest_recall": min(recall) if recall else None}


def _cell(row: Row, name: str) -> str:
    if name == "seeds" and row["seeds"] < row["runs"]:
        return f"{row['seeds']} of {row['runs']}"
    mean, std = (row[name], None) if name in row else (row[f"{name}_mean"], row[f"{name}_std"])
    if mean is None:
        return "–"
    form = FORMATS.get(name.rpartition("_")[2], "g" if isinstance(mean, float) else "")
    return f"{mean:{form}}" + ("" if std is None else f" ± {std:{form}}")


def _order(value: Any) -> tuple:
    """Numbers by size, before texts; nothing at all comes first."""
    if value is None:
        return (0,)
    if isinstance(value, int | float) and not math.isnan(value):
        return 1, float(value)
    return 2, str(value)
