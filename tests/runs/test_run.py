"""A run folder's files: whole or absent, checked when they are read."""

import json

import numpy as np
import pytest
import yaml

from center_loss import CenterLoss
from center_loss.base.checks import Fraction, NotNegative
from center_loss.base.errors import UsageError, UserError
from center_loss.dialects import DIALECTS
from center_loss.recipe import Recipe
from center_loss.runs.checkpoint import CHECKPOINT_KEYS, load_checkpoint, save_checkpoint
from center_loss.runs.contents import load_config, load_features, load_metrics
from center_loss.runs.files import write_file, write_text
from center_loss.runs.folder import begin, finish, held, is_finished_as
from center_loss.runs.load import find_runs

STATE = dict.fromkeys(CHECKPOINT_KEYS, 1)


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "metrics.json"
    write_text(path, "old")

    def fail(file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"metrics\.json can't be written \(No space left"):
        write_file(path, fail)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.json"]


@pytest.mark.parametrize("damage", ["cut", "empty", "missing", "other"])
@pytest.mark.parametrize(
    "name, load",
    [
        ("features.npz", load_features),
        ("metrics.json", load_metrics),
        ("config.yaml", load_config),
        ("checkpoint.pt", load_checkpoint),
    ],
)
def test_damaged_files_are_named(make_run, name, load, damage):
    folder = make_run("a", 0.01)
    save_checkpoint(folder, STATE)
    path = folder / name
    content = path.read_bytes()
    load(folder)
    path.unlink()
    if damage == "cut":
        path.write_bytes(
            content[: len(content) // 2] + (b"\n: [" if name == "config.yaml" else b"")
        )
    elif damage == "empty":
        path.touch()
    elif damage == "other":
        path.write_bytes(b"[1, 2]")
    with pytest.raises(UserError, match=name.replace(".", r"\.")) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_links_to_run_folders_are_followed(make_run, tmp_path):
    """To a run, to a folder of runs, from inside and from outside; each run is found once."""
    make_run("s/own", 0)
    for name in ("bulk/one", "bulk/more/two", "bulk/more/three"):
        make_run(name, 0.01)
    runs = tmp_path / "runs"
    (runs / "s/linked").symlink_to("../bulk/one")
    (runs / "s/again").symlink_to(runs / "s/linked")
    (runs / "s/all").symlink_to("../bulk/more")
    (runs / "s/a_copy_of_own").symlink_to("own")
    (runs / "s/loop").symlink_to("loop")
    (runs / "s/own/up").symlink_to("..")
    (runs / "s/higher").symlink_to(tmp_path)
    (runs / "bulk/more/back").symlink_to("../../s")
    (tmp_path / "link").symlink_to("runs/s")
    for folder in (runs / "s", tmp_path / "link"):
        finished, others = find_runs(folder)
        names = [str(one.folder.relative_to(folder)) for one in finished]
        assert names == ["again", "all/three", "all/two", "own"]
        assert [one.folder.name for one in others] == ["loop"]


def test_a_link_to_nothing_is_told(make_run, tmp_path):
    """As to a disk that isn't there. Links inside of runs are another matter."""
    folder = make_run("own", 0)
    (folder / "notes").symlink_to("nowhere")
    (tmp_path / "runs/lam0.1").symlink_to("/disk/lam0.1")
    _, (other,) = find_runs(tmp_path / "runs")
    assert str(other) == f"{tmp_path}/runs/lam0.1 is a link to /disk/lam0.1, which isn't there"


def test_find_runs(make_run, tmp_path):
    make_run("a", 0.01)
    make_run("deep/er/b", 0)
    half = make_run("c", 0.1)
    (half / "metrics.json").unlink()
    broken = make_run("d", 0.1)
    (broken / "metrics.json").write_text("{")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/config.yaml").write_text("version: 2")  # of another program
    (tmp_path / "other/metrics.json").write_text("{}")
    finished, others = find_runs(tmp_path)
    assert [each.folder.name for each in finished] == ["a", "b"]
    for phrase, text in zip(
        map(str, others), ["no recipe", f"{half} isn't finished", "d/metrics.json"], strict=True
    ):
        assert text in phrase
    with pytest.raises(UserError, match="nowhere"):
        find_runs(tmp_path / "nowhere")


def test_finished_runs_are_recognised_by_their_configuration(make_run, tmp_path):
    config = yaml.safe_load((make_run("a", 0.01) / "config.yaml").read_text())
    folder = tmp_path / "runs/a"
    elsewhere = {**config, "data": {"root": "/other"}, "device": "cpu", "force": False}
    assert is_finished_as(folder, Recipe.of(elsewhere))
    with pytest.raises(UsageError, match=r"loss\.lam: 0\.01, now 0\.1"):
        is_finished_as(folder, Recipe.of(config | {"loss": config["loss"] | {"lam": 0.1}}))
    (folder / "metrics.json").unlink()
    assert not is_finished_as(folder, Recipe.of(config))
    assert not is_finished_as(tmp_path / "new", Recipe.of(config))


def test_an_older_configuration_has_the_defaults_of_the_keys_that_came_later(make_run):
    folder = make_run("a", 0.01)
    written = yaml.safe_load((folder / "config.yaml").read_text())
    assert "lam_start" not in written["loss"] and "data" not in written
    assert is_finished_as(folder, Recipe.of(written))
    asked = written | {"loss": written["loss"] | {"lam_start": 0.0}, "data": {"name": "mnist"}}
    assert is_finished_as(folder, Recipe.of(asked))
    assert Recipe.of(asked).identity() == Recipe.of(written).identity()
    asked["loss"]["lam_start"] = 1e-4
    with pytest.raises(UsageError, match=r"loss\.lam_start: 0\.0, now 0\.0001"):
        is_finished_as(folder, Recipe.of(asked))


def test_a_run_is_finished_also_for_a_program_with_a_key_more(make_run, monkeypatch):
    """A key that is added to a loss, with what was done before as its default."""

    class Later(CenterLoss):
        def __init__(self, *sizes: int, alpha: Fraction = 0.5, margin: NotNegative = 0.0) -> None:
            super().__init__(*sizes, alpha)

    folder = make_run("a", 0.01)
    config = load_config(folder)
    monkeypatch.setitem(DIALECTS, "paper", Later)
    assert is_finished_as(folder, Recipe.of(config))
    with pytest.raises(UsageError, match=r"loss\.margin: 0\.0, now 0\.1"):
        is_finished_as(folder, Recipe.of(config | {"loss": config["loss"] | {"margin": 0.1}}))


def test_a_finished_run_with_a_file_removed_is_not_whole(make_run):
    folder = make_run("a", 0.01, snapshots=2)
    config = load_config(folder)
    save_checkpoint(folder, STATE)
    finish(folder, load_metrics(folder))
    (folder / "checkpoint.pt").unlink()  # nothing goes on from a finished run's
    assert is_finished_as(folder, Recipe.of(config))
    (folder / "snapshots.npz").unlink()
    with pytest.raises(UserError, match=r"snapshots\.npz is missing"):
        is_finished_as(folder, Recipe.of(config))
    (folder / "SHA256SUMS").unlink()  # put together by hand
    assert is_finished_as(folder, Recipe.of(config))


def test_force_removes_an_earlier_runs_files_and_no_others(make_run):
    folder = make_run("a", 0.01)
    save_checkpoint(folder, STATE)
    (folder / ".features.npz.1.tmp").touch()
    (folder / ".notes.tmp").touch()
    config = load_config(folder)
    begin(folder, {**config, "force": True})
    assert {path.name for path in folder.iterdir()} == {"config.yaml", ".notes.tmp"}


def test_one_process_at_a_time_trains_in_a_folder(tmp_path):
    with held(tmp_path / "a"), held(tmp_path / "b"):  # noqa: SIM117
        with pytest.raises(UserError, match="a is being trained by another process"):
            with held(tmp_path / "a"):
                pass
    with held(tmp_path / "a"):
        pass
    assert list((tmp_path / "a").iterdir()) == []


def test_files_of_an_unknown_run_are_not_replaced(make_run):
    folder = make_run("a", 0.01)
    config = {**load_config(folder), "force": False}
    (folder / "config.yaml").unlink()
    with pytest.raises(UsageError, match=r"holds metrics\.json, features\.npz but no config\.yaml"):
        begin(folder, config)
    assert {path.name for path in folder.iterdir()} == {"metrics.json", "features.npz"}


@pytest.mark.parametrize(
    "key, value",
    [
        ("test_features", np.zeros((3, 5), np.float32)),
        ("test_features", np.full((400, 2), np.nan, np.float32)),
        ("train_labels", np.full(400, 99, np.uint8)),
        ("train_predictions", np.zeros(3, np.uint8)),
        ("centers", np.zeros(3)),
        ("weight", np.float32(0)),
        ("test_labels", np.uint8(0)),
    ],
)
def test_features_that_do_not_fit_together(make_run, key, value):
    folder = make_run("a", 0.01)
    np.savez(folder / "features.npz", **{**load_features(folder), key: value})
    with pytest.raises(UserError, match=r"features\.npz is damaged"):
        load_features(folder)


def test_an_interrupted_runs_files_stay(make_run):
    folder = make_run("a", 0.01)
    save_checkpoint(folder, STATE)
    begin(folder, {**load_config(folder), "force": False})
    assert (folder / "checkpoint.pt").exists()


def test_metrics_are_json_without_nan(tmp_path):
    finish(tmp_path, {"test_recall": [1.0, float("nan")], "a": {"b": float("inf")}, "c": 1})
    assert json.loads((tmp_path / "metrics.json").read_text()) == {
        **{"test_recall": [1.0, None], "a": {"b": None}, "c": 1}
    }


def test_a_list_of_numbers_in_the_metrics_is_a_line(tmp_path):
    finish(tmp_path, {"means": [[1.5, 2], [3, 4]], "recall": [1, 2], "none": [], "name": "a b"})
    assert (tmp_path / "metrics.json").read_text() == (
        '{\n  "means": [\n    [1.5, 2],\n    [3, 4]\n  ],\n  "recall": [1, 2],\n  "none": [],\n'
        '  "name": "a b"\n}\n'
    )
