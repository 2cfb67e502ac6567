"""Which package may import which, and what every command and the front door promise."""

import ast
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from pkgutil import resolve_name

import pytest
from click.testing import CliRunner

from ensemble.cli import COMMANDS, ens

ROOT = Path(__file__).parents[1]
PACKAGES = ("members", "ensemble", "postproc", "evaluation")

# What a module may import of ours; the longest prefix that fits its name decides.
ALLOWED = {
    "evaluation.core": {"evaluation.core"},
    "evaluation": {"evaluation"},
    "members": {"members", "evaluation"},
    "postproc": {"postproc", "members", "evaluation"},
    "ensemble": {"ensemble", "members", "evaluation"},
    "ensemble.api": {*PACKAGES},
    "ensemble.pipeline": {*PACKAGES},
    "ensemble.cli": {*PACKAGES},
}
# Only these may import one another; the package itself names what the API offers.
TOP = ("ensemble.pipeline", "ensemble.cli", "ensemble.api")


def modules():
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write the full name"
            yield str(node.module)


def within(module, prefix):
    return module == prefix or module.startswith(prefix + ".")


def may_import(module, imported):
    prefix = max((prefix for prefix in ALLOWED if within(module, prefix)), key=len)
    if any(within(imported, top) for top in TOP):
        offered = module == "ensemble" and within(imported, "ensemble.api")
        return offered or any(within(module, top) for top in TOP)
    return any(within(imported, package) for package in ALLOWED[prefix])


@pytest.mark.parametrize("path", list(modules()), ids=name_of)
def test_module_imports_only_packages_below_it(path):
    for imported in imports_of(path):
        if imported.split(".")[0] in PACKAGES:
            assert may_import(name_of(path), imported), f"imports {imported}"


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("members.train", "postproc.chain"),
        ("evaluation.core.specs", "evaluation.confusion"),
        ("ensemble.fusion", "ensemble.pipeline.run.experiment"),
        ("ensemble.fusion", "ensemble.api"),
    ],
)
def test_import_of_a_higher_package_is_found(module, imported):
    assert not may_import(module, imported)


def test_image_files_are_opened_in_one_module_alone():
    """There they are turned as viewed, and masks keep their stored values."""
    readers = re.compile(r"Image\.open\(|\bimread|\bimdecode|tifffile|imageio")
    found = [name_of(path) for path in modules() if readers.search(path.read_text("utf-8"))]
    assert found == ["members.data.image_files"]


@pytest.mark.parametrize("package", PACKAGES)
def test_package_ships_its_types(package):
    assert (ROOT / package / "py.typed").is_file()


@pytest.mark.parametrize("command", COMMANDS)
def test_command_answers_help_and_is_in_the_readme(command):
    answer = CliRunner().invoke(ens, [command, "--help"])
    assert answer.exit_code == 0
    assert "--json" in answer.output or command in ("bench", "data", "members")
    assert f"ens {command}" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("command", "table"),
    [
        ("fuse", "ensemble.strategies:STRATEGIES"),
        ("fuse", "ensemble.calibration:CALIBRATORS"),
        ("postprocess", "postproc.steps:STEPS"),
        ("tune-postproc", "postproc.steps:STEPS"),
        ("score", "evaluation.protocols:PROTOCOLS"),
        ("score", "evaluation.metrics:METRICS"),
        ("compare", "evaluation.protocols:PROTOCOLS"),
        ("train-members", "members.architectures:ARCHITECTURES"),
        ("train-members", "members.losses:LOSSES"),
        ("train-members", "members.augmentations:AUGMENTATIONS"),
        ("train-members", "members.trainers:TRAINERS"),
        ("train-members", "members.optimizers:SCHEDULES"),
        ("search-loss", "members.losses:LOSSES"),
    ],
)
def test_help_of_a_command_lists_the_names_its_specs_may_use(command, table):
    shown = CliRunner().invoke(ens, [command, "--help"]).output
    assert not set(resolve_name(table)) - set(re.findall(r"\w+", shown))


def run_python(script, *arguments, cwd=ROOT):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


HEAVY = ("torch", "zarr", "dask", "distributed", "optuna", "pandas", "scipy.stats")
LOADED = f"; print(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
RUN = (
    "import json, sys; from ensemble.cli import run_command; assert run_command(sys.argv[1:]) == 0"
)


@pytest.fixture(scope="module")
def plain_files(tmp_path_factory):
    import numpy as np

    folder = tmp_path_factory.mktemp("plain")
    target = np.arange(2 * 4 * 5).reshape(2, 4, 5) % 3
    maps = np.eye(3, dtype=np.float32)[target].transpose(0, 3, 1, 2)
    np.save(folder / "target.npy", target.astype(np.uint8))
    np.save(folder / "maps.npy", maps)
    return folder


@pytest.mark.parametrize(
    "words",
    [
        "--help",
        "fuse --strategy mean --maps maps.npy --out fused.npy",
        "postprocess --chain suppress_background --maps maps.npy --out labels.npy --ignore 0",
        "score --target target.npy --pred target.npy --classes 3",
        "audit --target target.npy --pred target.npy --pred target.npy --classes 3",
    ],
)
def test_command_on_plain_files_loads_no_heavy_library(words, plain_files):
    assert json.loads(run_python(RUN + LOADED, *words.split(), cwd=plain_files)) == []


def test_import_of_the_front_door_loads_no_heavy_library():
    script = "import json, sys; import ensemble; ensemble.score; ensemble.open_run"
    assert json.loads(run_python(script + LOADED)) == []


FRONT_DOOR = ("fuse", "postprocess", "score", "compare", "audit", "open_run")


def test_no_module_hides_a_function_of_the_front_door():
    import ensemble

    for path in modules():
        importlib.import_module(name_of(path))
    for name in FRONT_DOOR:
        assert callable(getattr(ensemble, name)), name
    assert set(FRONT_DOOR) <= set(ensemble.__all__) <= set(dir(ensemble))
