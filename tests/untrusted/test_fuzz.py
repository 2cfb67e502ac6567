"""Whatever specs, experiment files and array headers hold: read, or refused in one line."""

import inspect
import struct

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ensemble.pipeline.run.experiment import Experiment, read_experiment
from ensemble.strategies import STRATEGIES
from ensemble.strategy import check_strategy
from evaluation.core.errors import EnsError
from evaluation.core.files import array_names, open_array, read_json
from evaluation.core.specs import parse_spec, parse_sum
from evaluation.protocols import PROTOCOLS
from members.architectures import ARCHITECTURES
from members.losses import check_loss
from members.recipe import Recipe, read_member
from postproc.chain import parse_chain
from postproc.steps import STEPS

MAX_LENGTH = 3000
law = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
TABLES = (STRATEGIES, STEPS, ARCHITECTURES, PROTOCOLS)
NAMES = sorted({name for table in TABLES for name in table} | {"nothing", "specialists"})
OPTIONS = sorted(
    {
        parameter.name
        for table in TABLES
        for name in table
        for parameter in inspect.signature(table.factory(name)).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
)
PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.dates()
)
MALFORMED = st.sampled_from(
    ["0x" + "f" * 5000, "9" * 5000, "{[1]: 2}", "{**a}", "b'x'", "1j", "...", "1e999", "a.b", "-a",
     "'\\d'", "\ud800", "lambda: 1", "[" * 99 + "]" * 99, "-" * 3000 + "1", "+".join("a" * 2000)]
)  # fmt: skip
VALUES = st.one_of(PLAIN.map(repr), MALFORMED, st.sampled_from(NAMES))
DOCUMENTS = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(PLAIN, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@st.composite
def specs(draw):
    options = draw(st.dictionaries(st.sampled_from(OPTIONS), VALUES, max_size=2))
    inside = ", ".join(f"{name}={value}" for name, value in options.items())
    return f"{draw(st.sampled_from(NAMES))}({inside})" if inside else draw(VALUES)


def is_read_or_refused(read, *arguments):
    """Whether reading succeeds or fails with one short line; any other error is raised."""
    message = refusal(read, *arguments)
    return len(message.splitlines()) == 1 and len(message) < MAX_LENGTH


def refusal(read, *arguments):
    """Return the error message, or `read`."""
    try:
        read(*arguments)
    except EnsError as error:
        return str(error)
    return "read"


@law
@given(text=specs())
@pytest.mark.parametrize(
    "read",
    [
        parse_spec,
        parse_sum,
        check_strategy,
        lambda text: parse_chain(f"{text}|{text}", classes=5, ignore=0, floor=1e-6),
        lambda text: check_loss(f"0.5*{text} + {text}"),
        lambda text: Recipe(architecture=text).check(),
        lambda text: read_member(f"a={text}", {}),
        lambda text: read_member(f"a={{architecture: {text}}}", {}),
    ],
    ids=["spec", "sum", "strategy", "chain", "loss", "architecture", "member", "recipe"],
)
def test_a_spec_is_read_or_refused(read, text):
    assert is_read_or_refused(read, text)


@law
@given(
    document=st.dictionaries(
        st.sampled_from([*Experiment.model_fields, "more"]), DOCUMENTS, max_size=4
    )
)
def test_an_experiment_file_of_any_values_is_read_or_refused(tmp_path, document):
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    assert is_read_or_refused(lambda: read_experiment(path).resolved())


@law
@given(text=st.text(max_size=60) | st.text("[]{}:-!&*'\"#|>%@ \n\tab01.", max_size=60))
def test_an_experiment_file_of_any_text_is_read_or_refused(tmp_path, text):
    path = tmp_path / "a.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    assert is_read_or_refused(read_experiment, path)
    assert is_read_or_refused(read_json, path)


@law
@given(
    shape=st.lists(st.integers(-2, 1 << 62), max_size=4).map(tuple).map(str) | MALFORMED,
    kind=st.sampled_from(["|u1", "<f4", ">i8", "|O", "<U9", "|S0", "<M8[s]", "V3"]) | st.text(),
    order=st.sampled_from(["True", "False", "None", "2"]),
    version=st.sampled_from([1, 2, 3, 9]),
)
def test_the_header_of_an_array_is_read_or_refused(tmp_path, shape, kind, order, version):
    text = f"{{'descr': {kind!r}, 'fortran_order': {order}, 'shape': {shape}}}\n"
    head = text.encode("utf-8", "surrogatepass")
    length = struct.pack("<H" if version == 1 else "<I", len(head) & 0xFFFF)
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY" + bytes([version, 0]) + length + head + bytes(8))
    assert is_read_or_refused(open_array, tmp_path / "a.npy")


@law
@given(position=st.integers(0), value=st.integers(0, 255))
def test_an_archive_with_any_byte_changed_is_read_or_refused(tmp_path, position, value):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, images=np.arange(6), masks=np.zeros((2, 3)))
    whole = bytearray(path.read_bytes())
    whole[position % len(whole)] = value
    path.write_bytes(whole)
    assert is_read_or_refused(array_names, path)
    assert is_read_or_refused(open_array, path, "images")
