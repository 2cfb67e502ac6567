"""The packages read no format that can run code."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("members", "ensemble", "postproc", "evaluation")
SOURCES = [file for name in PACKAGES for file in (ROOT / name).rglob("*.py")]
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
CALLS = {"torch.load", "yaml.load", "yaml.full_load", "yaml.unsafe_load", "pandas.read_pickle"}
BUILT_IN = {"eval", "exec"}

CLUSTER_MESSAGES = "evaluation/core/function_pickle.py"
"""Functions sent between the processes of one cluster: never read from a file."""


def unsafe_uses(text: str) -> list[str]:
    """Name the modules and calls of a source that can run what they read."""
    uses = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            uses += [alias.name for alias in node.names if alias.name.split(".")[0] in MODULES]
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] in MODULES:
            uses.append(str(node.module))
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            safe = called == "torch.load" and any(
                ast.unparse(keyword) == "weights_only=True" for keyword in node.keywords
            )
            uses += [called] if called in CALLS | BUILT_IN and not safe else []
            uses += [
                "allow_pickle"
                for keyword in node.keywords
                if keyword.arg == "allow_pickle"
                and not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False)
            ]
    return uses


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from joblib import load",
        "np.load(f, allow_pickle=True)",
        "np.load(f, allow_pickle=given)",
        "torch.load(f)",
        "torch.load(f, weights_only=given)",
        "yaml.load(f, Loader=yaml.Loader)",
        "eval(text)",
    ],
)
def test_each_way_of_running_what_was_read_is_detected(text):
    assert len(unsafe_uses(text)) == 1


def test_the_packages_never_run_what_they_read():
    assert len(SOURCES) > 100
    found = {str(f.relative_to(ROOT)) for f in SOURCES if unsafe_uses(f.read_text("utf-8"))}
    assert found <= {CLUSTER_MESSAGES}
