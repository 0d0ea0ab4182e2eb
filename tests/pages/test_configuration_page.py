"""docs/configuration.md and both programs' --help against the composed configs and the checks.

Nothing is listed here: keys, values and what is allowed come from configs/ and the signatures.
"""

import re
import shlex
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import ROOT
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from center_loss.base import checks
from center_loss.base.errors import UsageError
from center_loss.dialects import DIALECTS
from center_loss.job import DataPlace, Place, checked
from center_loss.models import MODELS
from center_loss.optim import OPTIMIZERS
from center_loss.program.cli import VERSION
from center_loss.recipe import Data, Length, Loss, Recipe
from center_loss.schedules import SCHEDULES
from center_loss.sweeps.local import Local, number_of_slots
from center_loss.sweeps.slurm import Slurm
from visualize import data_root, draw
from visualize import settings as visualize_settings

CONFIGS = ROOT / "configs"
PAGE = ROOT / "docs" / "configuration.md"
CHOSEN_BY_NAME = {  # groups whose checks depend on the choice
    "model": MODELS,
    "loss": DIALECTS,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
}
GROUPS = ["recipe", "data", *CHOSEN_BY_NAME, "experiment"]


# ---- what the configurations say


@pytest.fixture(scope="module", autouse=True)
def configs():
    """One Hydra for all tests here: to start it takes longer than to compose."""
    import visualize  # noqa: F401  # its help has a resolver of its own

    with initialize_config_dir(str(CONFIGS), **VERSION):
        yield


@cache
def composed(program: str, *overrides: str) -> DictConfig:
    return compose(program, list(overrides), return_hydra_config=True)


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def cell(value: Any) -> str:
    """A value as the page and --help print it, which is how it is typed."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {cell(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(cell, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return re.sub(r"\.0$", "", repr(value)) if isinstance(value, float) else checks.shown(value)


def leaves(config: DictConfig, *without: str) -> dict[str, str]:
    """Every key of a configuration, with dots, and the cell of its value, not interpolated."""

    def walk(values: dict, prefix: str):
        for key, value in values.items():
            if isinstance(value, dict):
                yield from walk(value, f"{prefix}{key}.")
            else:
                yield prefix + key, cell(value)

    values = OmegaConf.to_container(config, resolve=False)
    return dict(walk({key: values[key] for key in values if key not in without}, ""))


def program_leaves(program: str, *overrides: str) -> dict[str, str]:
    return leaves(composed(program, *overrides), "hydra")


def plain_values(config: DictConfig) -> dict[str, Any]:
    """What the programs hand to the checks."""
    config = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
    return OmegaConf.to_container(config, resolve=True)


def combinations() -> list[tuple[str, ...]]:
    """Overrides with which each recipe meets each choice of each group."""
    found: list[tuple[str, ...]] = []
    most = max(len(options(group)) for group in CHOSEN_BY_NAME)
    for kind in options("recipe"):
        found.append((f"recipe={kind}",))
        for k in range(most):
            chosen = {group: options(group) for group in CHOSEN_BY_NAME}
            choice = (f"{group}={each[k % len(each)]}" for group, each in chosen.items())
            found.append((f"recipe={kind}", *choice))
    return found


@cache
def all_train_keys() -> set[str]:
    return {key for each in combinations() for key in program_leaves("train", *each)}


# ---- what the checks say


def message(one: checks.Check) -> str:
    """What the check says is allowed, without its reasons in brackets."""
    with pytest.raises(ValueError) as refused:
        one(object())
    return re.sub(r" \(.*\)", "", str(refused.value))


def checks_of(*functions: Callable) -> dict[str, checks.Check]:
    """The checks in the signatures of some functions or classes, by the names of the arguments."""
    parameters = {key: each for one in functions for key, each in checks.keys_of(one).items()}
    return {key: checks.check_of(each.annotation) for key, each in parameters.items()}


CHECKS = {
    "": checks_of(Place, Recipe),
    "data": checks_of(DataPlace, Data),
    "train": checks_of(Length),
}


def allowed(program: str, key: str) -> str:
    """The "allowed" cell of a key."""
    if program == "visualize":
        return message(checks_of(data_root)["root"] if key == "data.root" else checks_of(draw)[key])
    group, _, name = key.partition(".")
    if key in GROUPS:
        null = ", or null" if composed("train")[key] is None else ""
        return "one of " + ", ".join(options(key)) + null
    if group not in CHOSEN_BY_NAME:
        return message(CHECKS[group][name] if name else CHECKS[""][key])
    choices = CHOSEN_BY_NAME[group]
    if name == "name":
        return "one of " + ", ".join(choices)
    shared = [Loss] if group == "loss" else []
    found = {choice: checks_of(each, *shared) for choice, each in choices.items()}
    by_choice = {choice: message(each[name]) for choice, each in found.items() if name in each}
    usual = next(iter(by_choice.values()))
    others = [f"{choice}: {each}" for choice, each in by_choice.items() if each != usual]
    return "; ".join([usual, *others])


# ---- what the page says


class Table(NamedTuple):
    section: str  # the last heading of the second level
    header: list[str]
    rows: dict[str, list[str]]  # by the first cell; the others'


def plain(text: str) -> str:
    return text.replace("`", "").strip()


@cache
def tables() -> list[Table]:
    found: list[Table] = []
    section, last = "", ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            section = plain(line.removeprefix("## "))
        if line.startswith("| "):
            cells = [plain(each) for each in line.strip().strip("|").split("|")]
            if not last.startswith("|"):
                found.append(Table(section, cells, {}))
            elif set("".join(cells)) - set("- :"):
                assert len(cells) == len(found[-1].header), line
                assert cells[0] not in found[-1].rows, f"{cells[0]} is there twice"
                found[-1].rows[cells[0]] = cells[1:]
        last = line
    return found


def key_rows(program: str) -> dict[str, list[str]]:
    """key → default, allowed, meaning, of all tables of the program's section."""
    header = ["key", "default", "allowed", "meaning"]
    rows: dict[str, list[str]] = {}
    for table in tables():
        if table.section == f"The keys of {program}.py" and table.header == header:
            assert not rows.keys() & table.rows.keys()
            rows |= table.rows
    return rows


def value_columns(first: str) -> dict[str, dict[str, str]]:
    """choice → key → cell, of the table whose first column is called so, without empty cells."""
    (table,) = [each for each in tables() if each.header[0] == first]
    return {
        choice: {key: cells[k] for key, cells in table.rows.items() if cells[k]}
        for k, choice in enumerate(table.header[1:])
        if choice != "meaning"
    }


# ---- the page against both


PROGRAMS = ["train", "visualize"]


def keys_of(program: str) -> set[str]:
    return all_train_keys() if program == "train" else set(program_leaves("visualize"))


@pytest.mark.parametrize("program", PROGRAMS)
def test_all_keys_and_no_others(program):
    assert key_rows(program).keys() == keys_of(program)


@pytest.mark.parametrize("program", PROGRAMS)
def test_defaults(program):
    wanted = program_leaves(program)
    for key, (default, _, meaning) in key_rows(program).items():
        assert default == wanted.get(key, ""), key
        assert meaning, key


@pytest.mark.parametrize("program", PROGRAMS)
def test_allowed(program):
    for key, (_, what, _) in key_rows(program).items():
        assert what == allowed(program, key), key


def test_groups():
    (table,) = [each for each in tables() if each.header[0] == "group"]
    choices = composed("train").hydra.runtime.choices
    expected = {
        group: [cell(choices[group]), ", ".join(options(group))]
        for group in [*GROUPS, "hydra/launcher"]
    }
    assert {group: cells[:2] for group, cells in table.rows.items()} == expected


@pytest.mark.parametrize("group", CHOSEN_BY_NAME)
def test_what_a_choice_of_a_group_sets(group):
    columns = value_columns(group)
    assert sorted(columns) == options(group)
    for choice, values in columns.items():
        file = OmegaConf.load(CONFIGS / group / f"{choice}.yaml")
        assert values == {f"{group}.{key}": value for key, value in leaves(file).items()}, choice


def from_the_page(*overrides: str) -> dict[str, str]:
    """The leaves of `train.py OVERRIDES`, from the page's tables alone."""
    given = dict(each.split("=") for each in overrides)
    rows, recipes = key_rows("train"), value_columns("recipe")
    recipe = recipes[given["recipe"]]
    config = {
        key: row[0] for key, row in rows.items() if key.partition(".")[0] not in CHOSEN_BY_NAME
    }
    for group in CHOSEN_BY_NAME:
        config |= value_columns(group)[given.get(group, recipe[group])]
    config |= {key: value for key, value in recipe.items() if key not in CHOSEN_BY_NAME}
    return config | {"recipe": given["recipe"]}


@pytest.mark.parametrize("recipe", options("recipe"))
def test_the_tables_together_are_the_composed_configuration(recipe):
    """Of each recipe by itself, and with each choice of each group on the command line."""
    for overrides in combinations():
        if overrides[0] == f"recipe={recipe}":
            assert from_the_page(*overrides) == program_leaves("train", *overrides), overrides


def test_recipes():
    columns = value_columns("recipe")
    assert sorted(columns) == options("recipe")
    assert len({tuple(each) for each in columns.values()}) == 1  # none has an empty cell
    for key in next(iter(columns.values())):
        assert len({each[key] for each in columns.values()}) > 1, f"{key} is the same in all"


def test_an_experiment_lies_above_the_recipe(recipe="paper"):
    for name, values in value_columns("experiment").items():
        known = from_the_page(f"recipe={recipe}")
        swept = composed("train", f"experiment={name}").hydra.sweeper.params
        known |= {key: each for key, each in values.items() if key in known and key not in swept}
        assert program_leaves("train", f"recipe={recipe}", f"experiment={name}") == known


def test_experiments():
    columns = value_columns("experiment")
    assert sorted(columns) == options("experiment")
    plain_run = composed("train")
    before = program_leaves("train")
    for name, values in columns.items():
        config = composed("train", f"experiment={name}")
        after = leaves(config, "hydra")
        expected = {key: after[key] for key in after if after[key] != before[key]}
        assert config.hydra.sweep.dir != plain_run.hydra.sweep.dir
        expected["hydra.sweep.dir"] = config.hydra.sweep.dir
        expected |= {key: str(value) for key, value in config.hydra.sweeper.params.items()}
        assert values == expected, name
        assert config.hydra.mode.name == "MULTIRUN"


def test_launchers():
    columns = value_columns("hydra/launcher")
    assert sorted(columns) == options("hydra/launcher")
    for name, values in columns.items():
        launcher = composed("train", f"hydra/launcher={name}").hydra.launcher
        launcher = OmegaConf.to_container(launcher, resolve=False)
        assert launcher.pop("_target_")
        assert values == {key: cell(value) for key, value in launcher.items()}, name


def test_what_is_allowed_for_n_jobs():
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    for workers in (Local, Slurm):
        with pytest.raises(UsageError) as refused:
            number_of_slots("x", workers.also)
        (what,) = re.findall("must be (.*), got x", str(refused.value))
        assert what.removesuffix(f", or {workers.also}") in text
        assert f"or {workers.also}" in text


def test_hydra_keys():
    (table,) = [each for each in tables() if each.header == ["key", "default", "meaning"]]
    assert table.rows
    for key, (default, meaning) in table.rows.items():
        value = OmegaConf.to_container(composed("train").hydra, resolve=False)
        for part in key.removeprefix("hydra.").split("."):
            value = value[part]
        assert default == cell(value), key
        assert meaning, key


# ---- its examples


def blocks(language: str, page: Path = PAGE) -> list[str]:
    found = re.findall(
        r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    return [text for its_language, text in found if its_language == language]


def commands() -> list[str]:
    """Of this page, the README and all others, with both programs; $ is a shell's variable."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    text = "".join(block for page in pages for block in blocks("", page)).replace("\\\n", " ")
    lines = dict.fromkeys(line.partition("#")[0].strip() for line in text.splitlines())
    return [
        line
        for line in lines
        if re.match(r"python (train|visualize)\.py", line) and "$" not in line
    ]


def first_values(line: str) -> list[str]:
    """A command's overrides; of a list of values, the first."""
    overrides = [each for each in shlex.split(line)[2:] if "=" in each]
    return [re.sub(r"^([^=]+=[^,\[{]*),.*", r"\1", each) for each in overrides]


@pytest.mark.parametrize("line", commands())
def test_commands(line):
    """Each composes and passes the checks; of a list of values, the first."""
    name = line.split()[1].removesuffix(".py")
    check = {"train": checked, "visualize": visualize_settings}[name]
    check(plain_values(composed(name, *first_values(line))))


def test_one_after_the_other_the_commands_work():
    """No two runs of different settings share a folder, and no run lies in a sweep's folder."""
    single: dict[str, dict] = {}
    swept = set()
    for line in commands():
        if " train.py" not in line or re.search(r" --(help|cfg)", line):
            continue
        config = composed("train", *first_values(line))
        if " -m " in line or "experiment=" in line:
            swept.add(config.hydra.sweep.dir)
            continue
        settings = checked(plain_values(config))
        assert single.setdefault(settings["output_dir"], settings) == settings, line
    assert len(single) > 5 and len(swept) > 5
    assert not swept & {str(folder) for path in single for folder in [path, *Path(path).parents]}


def test_the_recipe_of_ones_own(tmp_path):
    """The page's two files, put where it says: a recipe from nothing, and one upon another."""
    files = dict(
        re.findall(r"^# (configs/\S+)\n(.*)", block, re.DOTALL)[0] for block in blocks("yaml")
    )
    assert set(files) == {"configs/recipe/mine.yaml", "configs/recipe/longer.yaml"}
    shutil.copytree(CONFIGS, tmp_path / "configs")
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(tmp_path / "configs"), **VERSION):
            configs = {
                Path(name).stem: OmegaConf.to_container(
                    compose("train", [f"recipe={Path(name).stem}"]), resolve=True
                )
                for name in files
            }
    finally:
        GlobalHydra.instance().hydra = outer
    settings = {name: checked(values) for name, values in configs.items()}
    for name, values in settings.items():
        assert values["recipe"] == name
        assert values["output_dir"].startswith(f"outputs/runs/{name}/")
    fast = checked(plain_values(composed("train")))
    assert settings["longer"] != fast
    assert settings["longer"]["optimizer"] == fast["optimizer"]


# ---- --help


class HelpRow(NamedTuple):
    default: str
    what: str


def help_rows(program: str) -> dict[str, HelpRow]:
    """The table of the program's --help, by its header's columns."""
    lines = composed(program).hydra.help.template.splitlines()
    (start,) = [k for k, line in enumerate(lines) if line.startswith("KEY ")]
    default, what = lines[start].index("DEFAULT"), lines[start].index("WHAT")
    rows: dict[str, HelpRow] = {}
    for line in lines[start + 1 :]:
        if not line.strip():
            break
        key = line[:default].strip()
        if key:
            assert line[default - 1] == " " and line[what - 1 : what] in (" ", ""), line
            rows[key] = HelpRow(line[default:what].strip(), line[what:].strip())
        else:  # the last row goes on
            key = list(rows)[-1]
            rows[key] = HelpRow(rows[key].default, f"{rows[key].what} {line.strip()}")
    return rows


@pytest.mark.parametrize("program", PROGRAMS)
def test_help(program):
    """Its defaults are the composed ones, its keys exist, no name that is allowed is missing."""
    config = composed(program)
    values, choices = leaves(config, "hydra"), config.hydra.runtime.choices
    for key, row in help_rows(program).items():
        if key.startswith("hydra."):
            assert row.default == ""  # the experiments have others
            assert OmegaConf.select(config, key) is not None, key
            continue
        if key in choices and key != "experiment":
            assert row.default == choices[key], key
            names = [] if "see below" in row.what else options(key)
        else:
            assert row.default == values[key], key
            what = allowed(program, key)
            names = what.removeprefix("one of ").split(", ") if what.startswith("one of ") else []
            names = [] if "see below" in row.what else names
        for name in names:
            assert re.search(rf"(?<!\w){re.escape(name)}(?!\w)", row.what), f"{key}: no {name}"
    if program == "visualize":
        assert help_rows(program).keys() == values.keys()
