"""Choosing by spec: what parses, what stands in a table, and what is said of the rest."""

import json
from keyword import iskeyword
from typing import Annotated, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from evaluation.core.errors import BadSpec
from evaluation.core.specs import (
    Spec,
    Table,
    parse_spec,
    parse_sum,
    split_chain,
    split_name,
)

law = settings(max_examples=25, deadline=None)
MOST = 2**64 - 1  # whole numbers of more bits are refused

names = st.from_regex(r"[a-z][a-z_0-9]{0,6}", fullmatch=True).filter(lambda n: not iskeyword(n))
plain = (
    st.none()
    | st.booleans()
    | st.integers(-MOST, MOST)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
)


def specs(values, *, min_options=0):
    options = st.dictionaries(names, values, min_size=min_options, max_size=3)
    arguments = st.lists(values, max_size=2).map(tuple)
    return st.builds(Spec, names, arguments, options)


# Inside another spec a name without options is a word, so only specs with options stand there.
values = st.recursive(
    plain,
    lambda v: (
        specs(v, min_options=1)
        | st.lists(v, max_size=3)
        | st.dictionaries(st.text(max_size=3), v, max_size=2)
    ),
    max_leaves=6,
)


class Made:
    """What the factories below give."""

    def __init__(self, **got):
        self.got = got


def plant(
    classes: int,
    *,
    size: Annotated[int, Field(ge=1, le=9)] = 3,
    colour: Literal["red", "blue"] = "red",
    floor: float = 0.5,
):
    return Made(classes=classes, size=size, colour=colour, floor=floor)


def picky(*, size: int):
    if size == 13:
        raise BadSpec("13 brings bad luck")
    return Made(size=size)


@pytest.fixture
def table(monkeypatch):
    # Under importlib mode this file has no name to be imported by.
    import json.tool as somewhere

    monkeypatch.setattr(somewhere, "plant", plant, raising=False)
    monkeypatch.setattr(somewhere, "picky", picky, raising=False)
    return Table("herb", {"plant": "json.tool:plant", "picky": "json.tool:picky"})


class TestLaws:
    @law
    @given(specs(values))
    def test_a_written_spec_parses_back(self, spec):
        assert parse_spec(str(spec)) == spec

    @law
    @given(specs(values))
    def test_writing_is_canonical(self, spec):
        assert str(parse_spec(str(spec))) == str(spec)

    @law
    @given(st.text(max_size=20) | st.text("ab(,)=*+'[]{}|0.- ", max_size=20))
    def test_any_text_is_parsed_or_refused_in_one_line(self, text):
        for read in (parse_spec, parse_sum, split_chain):
            try:
                read(text)
            except BadSpec as error:
                message = str(error)
            else:
                message = "nothing"
            assert len(message.splitlines()) == 1

    @law
    @given(st.lists(specs(values).map(str), min_size=1, max_size=3))
    def test_a_joined_chain_splits_into_its_steps(self, steps):
        assert split_chain("|".join(steps)) == steps

    @law
    @given(st.lists(st.tuples(st.floats(0.01, 100), specs(values)), min_size=1, max_size=4))
    def test_a_written_sum_parses_back(self, terms):
        text = " + ".join(f"{weight!r}*{spec}" for weight, spec in terms)
        assert parse_sum(text) == terms


class TestByHand:
    @pytest.mark.parametrize(
        ("text", "spec"),
        [
            ("mean", Spec("mean")),
            (" mean ", Spec("mean")),
            ("mean()", Spec("mean")),
            ("stacking(l2=0.1)", Spec("stacking", (), {"l2": 0.1})),
            ("unet(bottleneck=se)", Spec("unet", (), {"bottleneck": "se"})),
            ("f(x=-1)", Spec("f", (), {"x": -1})),
            ("f(x=[6, 12])", Spec("f", (), {"x": [6, 12]})),
            ("specialists(unet(width=8))", Spec("specialists", (Spec("unet", (), {"width": 8}),))),
        ],
    )
    def test_a_spec_by_hand(self, text, spec):
        assert parse_spec(text) == spec

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("", "cannot read spec ''; expected NAME"),
            ("mean(", r"cannot read spec 'mean\('"),
            ("3", "cannot read spec '3'"),
            ("'mean'", None),
            ("f(**x)", "has no meaning in a spec"),
            ("f(x=1+y)", r"cannot read '1\+y' in spec"),
            ("f(x=__import__('os').getcwd())", "cannot read .* in spec"),
        ],
    )
    def test_text_that_is_not_a_spec_is_refused(self, text, words):
        if words is None:
            assert parse_spec(text) == Spec("mean")
            return
        with pytest.raises(BadSpec, match=words):
            parse_spec(text)

    def test_terms_without_a_weight_have_weight_1(self):
        assert parse_sum("dice + 0.5*focal(gamma=2)") == [
            (1.0, Spec("dice")),
            (0.5, Spec("focal", (), {"gamma": 2})),
        ]

    @pytest.mark.parametrize("text", ["-1*dice", "0*dice", "dice*0.5", "True*dice"])
    def test_a_weight_must_be_a_number_above_0(self, text):
        with pytest.raises(BadSpec, match="expected a number above 0"):
            parse_sum(text)

    @pytest.mark.parametrize(
        ("text", "steps"),
        [
            ("", []),
            ("a", ["a"]),
            ("a | b(x=1)", ["a", "b(x=1)"]),
            ("a(x='|')|b(y=[1|2])", ["a(x='|')", "b(y=[1|2])"]),
        ],
    )
    def test_bars_inside_brackets_and_quotes_do_not_split(self, text, steps):
        assert split_chain(text) == steps

    @pytest.mark.parametrize("text", ["|", "a|", "a||b"])
    def test_an_empty_step_is_refused(self, text):
        with pytest.raises(BadSpec, match="has an empty step"):
            split_chain(text)

    @pytest.mark.parametrize(
        ("text", "parts"),
        [
            ("unet", (None, "unet")),
            ("stacking(l2=0.1)", (None, "stacking(l2=0.1)")),
            ("mine=stacking(l2=0.1)", ("mine", "stacking(l2=0.1)")),
            (
                "u={architecture: unet(width=16)}",
                ("u", "{architecture: unet(width=16)}"),
            ),
        ],
    )
    def test_a_name_comes_before_the_first_equals_sign(self, text, parts):
        assert split_name(text) == parts


class TestTable:
    def test_listing_names_imports_nothing(self):
        assert list(Table("herb", {"ghost": "no.such.module:ghost"})) == ["ghost"]

    def test_context_is_passed_by_name_and_options_by_spec(self, table):
        made = table.build("plant(size=4)", classes=5, unasked=1)
        assert made.got == {"classes": 5, "size": 4, "colour": "red", "floor": 0.5}

    def test_context_with_the_name_of_an_option_is_its_default(self, table):
        assert table.build("plant", classes=5, floor=0.1).got["floor"] == 0.1
        assert table.build("plant(floor=0.2)", classes=5, floor=0.1).got["floor"] == 0.2

    @pytest.mark.parametrize(
        ("spec", "words"),
        [
            ("plnt", "unknown herb 'plnt'; known: picky, plant"),
            ("plant(sise=3)", "herb 'plant' has no option 'sise'; known: size, colour, floor"),
            ("plant(size=0)", "option 'size' got 0; expected greater than or equal to 1"),
            ("plant(size=10)", "option 'size' got 10; expected less than or equal to 9"),
            ("plant(size=x)", "option 'size' got x; expected a valid integer"),
            ("plant(colour=green)", "option 'colour' got green; expected 'red' or 'blue'"),
            ("plant(classes=3)", "herb 'plant' has no option 'classes'"),
            ("plant(3)", "herb 'plant' got 3 without a name; write option=value"),
            ("picky", r"herb 'picky' needs option 'size'; write picky\(size=...\)"),
        ],
    )
    def test_check_and_build_refuse_alike(self, table, spec, words):
        with pytest.raises(BadSpec, match=words):
            table.build(spec, classes=5)
        with pytest.raises(BadSpec, match=words):
            table.check(spec, "classes")

    def test_a_refusal_of_the_factory_names_the_spec(self, table):
        with pytest.raises(BadSpec, match=r"herb picky\(size=13\): 13 brings bad luck"):
            table.build("picky(size=13)")

    def test_check_builds_nothing_and_returns_the_spec(self, table):
        assert table.check("picky(size=13)") == Spec("picky", (), {"size": 13})

    def test_a_spec_can_be_written_to_json_as_its_text(self):
        assert json.loads(json.dumps(str(parse_spec("a( x = 1 )")))) == "a(x=1)"

    def test_an_alias_is_accepted_everywhere_and_listed_nowhere(self):
        table = Table("counter", {"count": "collections:Counter"}, aliases={"tally": "count"})
        assert (list(table), len(table), "tally" in table) == (["count"], 1, True)
        assert table.factory("tally") is table.factory("count")
        assert table.check("tally") == Spec("count")
        with pytest.raises(BadSpec, match=r"unknown counter 'sum'; known: count$"):
            table.build("sum")
