"""Members and recipes as users write them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from evaluation.core.classes import MARS, Classes
from evaluation.core.errors import BadSpec
from members.recipe import (
    Member,
    Recipe,
    read_member,
    read_recipe,
    read_repeats,
    repeat_members,
    repeats_of,
)
from members.train import Fold, seed_of

ROOT = Path(__file__).parents[2]


class TestReading:
    def test_a_bare_spec_is_named_after_its_architecture(self):
        name, recipe = read_member("unet(width=4)", {})
        assert (name, recipe.architecture) == ("unet", "unet(width=4)")

    def test_a_name_goes_before_the_first_equals_sign(self):
        name, recipe = read_member("big=unet(width=4)", {})
        assert (name, recipe.architecture) == ("big", "unet(width=4)")

    def test_a_mapping_gives_any_key_of_the_recipe(self):
        name, recipe = read_member("unet={architecture: unet(width=16), epochs: 8}", {"batch": 4})
        assert name == "unet"
        assert (recipe.architecture, recipe.epochs, recipe.batch) == ("unet(width=16)", 8, 4)

    def test_the_mapping_wins_over_the_defaults(self):
        assert read_recipe("m", {"epochs": 3}, {"epochs": 9}).epochs == 3

    @pytest.mark.parametrize("defaults", [{}, {"trainer": "adversarial"}, {"procedure": "magic"}])
    def test_the_former_key_procedure_is_read_as_trainer(self, defaults):
        assert read_recipe("m", {"procedure": "staged"}, defaults).trainer == "staged"

    def test_trainer_and_procedure_together_are_refused(self):
        with pytest.raises(BadSpec, match=r"'m' has no key 'procedure'; known: .*trainer"):
            read_recipe("m", {"procedure": "staged", "trainer": "staged"}, {})

    @pytest.mark.parametrize(
        ("written", "hint"),
        [
            ("{architecture: unet(width=8, depth=3)}", "a spec with commas needs quotes"),
            ("{epochs:3}", "YAML wants a blank after the colon"),
        ],
    )
    def test_what_yaml_reads_otherwise_is_explained(self, written, hint):
        with pytest.raises(BadSpec, match=rf"'m' has no key '.*' \({hint}.*; known: "):
            read_recipe("m", yaml.safe_load(written), {})


class TestRepeats:
    def test_each_repeat_is_a_member_of_the_same_recipe_from_another_seed(self):
        repeated = read_repeats("unet={architecture: unet, epochs: 3, repeats: 3}", {})
        assert list(repeated) == ["unet-1", "unet-2", "unet-3"]
        assert len({str(recipe) for recipe in repeated.values()}) == 1
        fold = Fold(0, np.arange(3))
        assert len({seed_of(name, fold, 0) for name in repeated}) == 3

    def test_a_members_own_number_wins_over_the_default_and_one_changes_no_name(self):
        members = {"a": {"repeats": 1}, "b": {}, "c": {"repeats": 3}}
        repeated, defaults = repeat_members(members, {"repeats": 2, "epochs": 3})
        assert list(repeated) == ["a", "b-1", "b-2", "c-1", "c-2", "c-3"]
        assert defaults == {"epochs": 3}
        assert all(recipe == {} for recipe in repeated.values())

    def test_repeats_of_a_recipe_are_found_again(self):
        recipes = {name: Recipe() for name in ("a-1", "a-2", "ab-1", "lone", "a")}
        assert repeats_of(recipes, "a") == ["a-1", "a-2"]
        assert repeats_of(recipes, "lone") == ["lone"]

    @pytest.mark.parametrize("number", [0, 101, 1.5, True, "2", None])
    def test_a_number_that_is_none_is_refused(self, number):
        with pytest.raises(BadSpec, match="member 'a': 'repeats' got"):
            repeat_members({"a": {"repeats": number}}, {})

    def test_a_name_that_a_repeat_takes_is_refused(self):
        with pytest.raises(BadSpec, match="member 'a-2' is given twice"):
            repeat_members({"a-2": {}, "a": {"repeats": 2}}, {})

    def test_members_whose_recipes_differ_are_no_repeats(self):
        with pytest.raises(BadSpec, match="'a-1' and 'a-2' have different recipes"):
            repeats_of({"a-1": Recipe(), "a-2": Recipe(epochs=3)}, "a")

    def test_an_unknown_recipe_is_refused_with_the_known_ones(self):
        with pytest.raises(BadSpec, match="unknown recipe 'c'; known: a, b"):
            repeats_of({"a-1": Recipe(), "a-2": Recipe(), "b": Recipe()}, "c")


def test_reading_a_recipe_loads_no_torch():
    script = "import sys, members.recipe; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 0


def test_seeds_of_trainings_stay_as_they_were():
    fold = Fold(2, np.arange(3))
    assert seed_of("five-soil", fold, 7) == 1_991_810_977


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("unet={epochs: 0}", "member 'unet': 'epochs' got 0; expected greater than or equal to 1"),
        ("unet={epoch: 3}", "member 'unet' has no key 'epoch'; known: architecture, loss"),
        ("unet={a: [}", "is no YAML mapping; write NAME={architecture: unet, epochs: 8}"),
    ],
)
def test_unreadable_members_are_refused_with_name_and_key(text, words):
    with pytest.raises(BadSpec) as refusal:
        read_member(text, {})
    assert words in str(refusal.value)


class TestExpanding:
    def test_specialists_are_one_binary_member_per_class(self):
        recipe = Recipe(architecture="specialists(unet(width=8))")
        members = Member.expand("ovr", recipe, MARS)
        assert [m.name for m in members] == [
            *("ovr-background", "ovr-soil", "ovr-bedrock", "ovr-sand", "ovr-big_rock"),
        ]
        assert [m.label for m in members] == [0, 1, 2, 3, 4]
        assert {m.recipe.architecture for m in members} == {"unet(width=8)"}
        assert {m.family for m in members} == {"ovr"}

    @pytest.mark.parametrize(
        ("classes", "folders"),
        [
            (
                ("big rock", "big-rock", "sand"),
                ["ovr-0-big_rock", "ovr-1-big_rock", "ovr-2-sand"],
            ),
            (("песок", "камень"), ["ovr-0-_", "ovr-1-_"]),
        ],
        ids=["signs", "letters"],
    )
    def test_specialists_of_classes_with_like_names_have_different_folders(self, classes, folders):
        recipe = Recipe(architecture="specialists(unet)")
        assert [m.name for m in Member.expand("ovr", recipe, Classes(classes))] == folders

    @pytest.mark.parametrize(
        ("changed", "words"),
        [
            ({"architecture": "specialists"}, "write specialists(ARCHITECTURE)"),
            ({"architecture": "specialists(resnet)"}, "unknown architecture 'resnet'"),
            ({"architecture": ""}, "member 'm': cannot read spec ''"),
            ({"loss": "dise"}, "member 'm': unknown loss 'dise'"),
            ({"augment": ["flip"]}, "unknown augmentation 'flip'; known: "),
            ({"optimizer": "adamw(lr=0)"}, "option 'lr' got 0; expected greater than 0"),
            ({"schedule": "stairs"}, "unknown schedule 'stairs'; known: constant, cosine"),
            ({"trainer": "magic"}, "unknown trainer 'magic'; known: adversarial, distill, staged"),
        ],
    )
    def test_specs_that_name_something_unknown_are_refused(self, changed, words):
        with pytest.raises(BadSpec) as refusal:
            Member.expand("m", Recipe(**changed), MARS)
        assert words in str(refusal.value)

    def test_a_name_that_would_leave_the_folder_is_refused(self):
        with pytest.raises(BadSpec, match=r"member name '../m'; expected letters"):
            Member("../m", Recipe())


@pytest.mark.parametrize("mapping", [["epochs", 8], "unet", None])
def test_a_recipe_that_is_no_mapping_is_refused_with_the_member(mapping):
    with pytest.raises(BadSpec, match=r"member 'net' is .*; expected a mapping of recipe keys"):
        read_recipe("net", mapping, {})
