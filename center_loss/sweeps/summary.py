"""A folder of runs as a table: a row a run, and mean and spread over seeds."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from center_loss.base.errors import UsageError, UserError
from center_loss.job import Place
from center_loss.runs.files import write_csv

if TYPE_CHECKING:
    from center_loss.sweeps.jobs import Job

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

Row = dict[str, Any]  # status, the keys that tell the runs apart, the metrics, reason, folder


def rows(root: Path, jobs: Iterable["Job"] = ()) -> list[Row]:
    """A row for each run in a folder, and for each job that has left nothing there.

    ``status`` is ``finished``, ``failed``, ``damaged``, ``unfinished`` (interrupted, or still
    training), or a job's ``refused`` or ``waiting``; ``folder`` is relative to ``root``. α is None
    at λ = 0.
    """
    from center_loss.runs.load import find_runs  # imports torch

    entries: dict[Path, tuple[dict[str, Any], Row]] = {}  # what was trained, what became of it
    finished, others = find_runs(root)
    for one in finished:
        row = {"status": "finished", "reason": "", **_metrics(one.metrics)}
        entries[one.folder] = one.recipe.values(), row
    for other in others:
        entries[other.folder] = (
            _values(other.config) if other.config else {},
            {"status": other.status, "reason": other.reason},
        )
    refused = []
    for job in jobs:
        why = "" if job.status == "finished" else job.reason
        entry = _values(job.values), {"status": job.status, "reason": why}
        if job.status == "refused":  # what lies in its folder, if anything, is another run
            refused.append((entry[0], entry[1] | {"folder": ""}))
        elif job.status == "failed" or job.folder not in entries:
            entries[job.folder] = entry
    table = [
        (config, row | {"folder": str(folder.relative_to(root))})
        for folder, (config, row) in entries.items()
    ] + refused
    configs = [config for config, _ in table]
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
            **{name: row[name] for name in ("reason", "folder")},
        }
        for config, row in table
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
        by_seed = {row["seed"]: row for row in group if row["status"] == "finished"}
        finished = list(by_seed.values())
        summed: Row = {key: group[0][key] for key in keys}
        summed |= {"runs": len({row["seed"] for row in group}), "seeds": len(finished)}
        for name in METRICS:
            values = [row[name] for row in finished if row[name] is not None]
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
    seeds = len({row["seed"] for row in rows}) > 1
    keys = [key for key in rows[0] if key not in _OUTCOME]
    always = ("loss.lam", "loss.alpha")
    keys = [key for key in keys if key in always or len({str(row[key]) for row in rows}) > 1]
    lines = []
    if seeds:
        keys = [key for key in keys if key != "seed"]
        for row in over_seeds(rows):
            cells = [_cell(key, row[key]) for key in keys]
            all_there = row["seeds"] == row["runs"]
            cells.append(f"{row['seeds']}" + ("" if all_there else f" of {row['runs']}"))
            for name in PRINTED:
                mean, std = row[f"{name}_mean"], row[f"{name}_std"]
                cells.append(_cell(name, mean) + ("" if std is None else f" ± {_cell(name, std)}"))
            lines.append(cells)
        head = [*keys, "seeds", *PRINTED]
    else:
        for row in rows:
            cells = [_cell(key, row[key]) for key in keys]
            lines.append([*cells, row["status"], *(_cell(name, row[name]) for name in PRINTED)])
        head = [*keys, "status", *PRINTED]
    lines.insert(0, [SHORT.get(name, name) for name in head])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )


def _values(config: dict[str, Any]) -> dict[str, Any]:
    """What is trained, by the configuration's keys; of a wrong configuration what can be told."""
    from center_loss.recipe import Recipe  # imports torch

    try:
        return Recipe.of(config).values()
    except UsageError:
        groups = {group: part for group, part in config.items() if isinstance(part, dict)}
        inner = {f"{group}.{key}": v for group, part in groups.items() for key, v in part.items()}
        elsewhere = {"data.root", *(each.name for each in fields(Place)), *groups}
        return {key: value for key, value in (config | inner).items() if key not in elsewhere}


_OUTCOME = {"status", "reason", "folder", *METRICS}


def _metrics(metrics: dict[str, Any]) -> Row:
    recall = [value for value in metrics.get("test_recall") or [] if value is not None]
    return metrics | {"test_lowest_recall": min(recall) if recall else None}


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "–"
    if name.endswith(("accuracy", "recall")):
        return f"{value:.2%}"
    if name.endswith("seconds"):
        return f"{value:.0f}"
    if name.endswith("ratio"):
        return f"{value:.3f}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _order(value: Any) -> tuple:
    """Numbers by size, before texts; nothing at all comes first."""
    if value is None:
        return (0,)
    if isinstance(value, int | float) and not math.isnan(value):
        return 1, float(value)
    return 2, str(value)
