"""Which output holds the maps, what its values mean, and how pixels may be given: by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import softmax

from evaluation.core.classes import Classes
from evaluation.core.errors import BadNetwork, BadSpec
from members.external.inspection import KnownMaps
from members.external_networks.description import NetworkDescription
from members.external_networks.input_readings import IMAGENET, possible_inputs
from members.external_networks.meaning import SampledOutputs, choose_output, meaning_of

SIZE = (8, 12)
CLASSES = Classes(("ground", "water", "tree"))
PATCHES = np.random.default_rng(0).integers(0, 3, (40, 4, 4), np.uint8)
TARGET = PATCHES.repeat(3, axis=1).repeat(3, axis=2)
RIGHT = (4 * (TARGET[:, None] == np.arange(3)[:, None, None]) - 2).astype(np.float32)
RIGHT[:, 0] += 0.5
KNOWN = KnownMaps("the masks", lambda indices: TARGET[indices])


def described(**said):
    return NetworkDescription(file="net.onnx", **said)


def meaning(values, known=KNOWN, classes=CLASSES, **said):
    ids = tuple(f"image-{i}" for i in range(len(values)))
    outputs = SampledOutputs(tuple(values), ids)
    return meaning_of(outputs, described(**said), classes, known)


@pytest.mark.parametrize(
    ("shape", "integers", "classes", "layout"),
    [
        ((1, 3, 8, 12), False, 3, "class row col"),
        ((1, 2, 4, 6), False, 3, "class row col"),
        ((1, 8, 12, 3), False, 3, "row col class"),
        ((1, 8, 12), True, 3, "row col"),
        ((1, 1, 8, 12), True, 3, "row col"),
        ((1, 8, 12), False, 2, "class row col"),
        ((1, 8, 12), False, 3, None),
        ((1, 5, 8, 12), False, 3, None),
        ((1, 3), False, 3, None),
        ((1, 2, 8, 12), True, 3, None),
        ((1, 3, 1, 1), False, 3, None),
        ((1, 3, 0, 12), False, 3, None),
        ((1, 3, 8, 6), False, 3, None),
        ((1, 3, 16, 24), False, 3, None),
    ],
)
def test_an_output_is_maps_by_its_axes(shape, integers, classes, layout):
    results = {"maps": torch.zeros(shape, dtype=torch.int64 if integers else torch.float32)}
    if layout is None:
        with pytest.raises(BadNetwork, match=rf"outputs maps .* expected maps \(1, {classes}, row"):
            choose_output(results, described(), SIZE, classes)
    else:
        assert choose_output(results, described(), SIZE, classes) == ("maps", layout)


def test_maps_are_taken_before_labels_and_a_usual_name_before_others():
    maps, labels = torch.zeros(1, 3, *SIZE), torch.zeros((1, *SIZE), dtype=torch.int64)
    both = {"classes": labels, "out": maps}
    assert choose_output(both, described(), SIZE, 3) == ("out", "class row col")
    assert choose_output(both, described(key="classes"), SIZE, 3) == ("classes", "row col")
    named = {"logits": maps, "auxiliary": maps}
    assert choose_output(named, described(), SIZE, 3)[0] == "logits"
    with pytest.raises(BadNetwork, match="outputs nothing for an image of 8 x 12 pixels"):
        choose_output({}, described(), SIZE, 3)


class TestValues:
    @pytest.mark.parametrize(
        ("said", "values"),
        [({}, "logits"), ({"output": "logits"}, "logits")],
    )
    def test_scores_of_any_size_are_logits(self, said, values):
        assert meaning(RIGHT, **said).values == values

    def test_sums_of_1_are_probabilities(self):
        assert meaning(softmax(RIGHT, axis=1)).values == "probabilities"

    @pytest.mark.parametrize(
        ("values", "said", "words"),
        [
            (RIGHT[:, :1], {"output": "probabilities"}, "-1.5 to 2.5"),
            (RIGHT, {"output": "probabilities"}, "-2 to 2.5"),
        ],
    )
    def test_probabilities_out_of_their_range_are_refused(self, values, said, words):
        two = Classes(("ground", "water"))
        classes = two if values.shape[1] == 1 else CLASSES
        with pytest.raises(
            BadNetwork, match=f"said to give probabilities, and values go.* {words}"
        ):
            meaning(values, None, classes, **said)

    def test_too_few_channels_must_leave_the_rest_to_1(self):
        named = {"class_names": ("ground", "water")}
        left = softmax(RIGHT, axis=1)[:, :2]
        assert meaning(left, **named).order == (0, 1, None)
        for values, said in ((RIGHT[:, :2], {}), (left, {"output": "logits"})):
            with pytest.raises(
                BadNetwork, match=r"outputs 2 channels, .*; expected 3, or probabil"
            ):
                meaning(values, **named, **said)

    def test_labels_beyond_the_classes_are_refused(self):
        assert meaning(TARGET.astype(np.int32)).values == "labels"
        with pytest.raises(BadNetwork, match="outputs labels from 1 to 3"):
            meaning(TARGET.astype(np.int32) + 1)

    def test_labels_of_some_classes_take_their_names(self):
        names = ("tree", "ground")
        found = meaning(np.where(TARGET == 2, 0, 1).astype(np.int32), None, class_names=names)
        assert found.order == (1, None, 0)


def test_maps_that_are_turned_are_refused_with_how_to_export_them():
    with pytest.raises(BadNetwork, match=r"upside down.*export it with rows before columns"):
        meaning(np.ascontiguousarray(RIGHT[:, :, ::-1]))


@pytest.mark.parametrize("names", [("ground", "water"), ("sky",)])
def test_the_name_of_one_channel_is_one_of_two_classes(names):
    two = Classes(("ground", "water"))
    with pytest.raises(BadSpec, match="expected the class of one channel: ground, water"):
        meaning(RIGHT[:, :1], None, two, class_names=names)


class TestInput:
    @pytest.mark.parametrize(
        ("kind", "channels", "divisors"),
        [
            ("uint8", 1, [1, 255, 255]),
            ("uint8", 3, [1, 255, 255, 255]),
            ("uint16", 1, [1, 257, 65535, 65535]),
            ("float32", 3, [1]),
        ],
    )
    def test_what_is_open_has_the_usual_scalings(self, kind, channels, divisors):
        found = possible_inputs(described(), kind, channels, takes_bytes=False)
        assert [one.divisor for one in found] == divisors
        assert (found[-1].mean == IMAGENET[0]) == (channels == 3 and kind == "uint8")

    @pytest.mark.parametrize(
        ("said", "kind", "bytes_", "expected"),
        [
            ({"input_range": "0..255"}, "uint16", False, 257),
            ({"input_range": "0..1"}, "uint16", False, 65535),
            ({"input_range": "stored"}, "float32", False, 1),
            ({}, "uint8", True, 1),
            ({"mean": 0.5, "input_range": "0..1"}, "uint8", True, "mean is said, but the network"),
            ({"input_range": "0..1"}, "uint8", True, r"input_range 0..1 is said, but the network"),
            ({}, "uint16", True, "the network takes 8 bits, and the images are uint16: convert"),
            ({"input_range": "0..1"}, "float32", False, "needs images of 8 or 16 bits; they are f"),
            ({"std": 0.0}, "uint8", False, r"std holds 0.0; expected numbers above 0"),
        ],
    )
    def test_what_is_said_is_taken_or_refused(self, said, kind, bytes_, expected):
        if isinstance(expected, str):
            with pytest.raises(BadSpec, match=expected):
                possible_inputs(described(**said), kind, 1, takes_bytes=bytes_)
        else:
            (one,) = possible_inputs(described(**said), kind, 1, takes_bytes=bytes_)
            assert one.divisor == expected


def test_outputs_are_changed_image_by_image():
    outputs = SampledOutputs((RIGHT[0], RIGHT[1][:, :6]), ("a", "b"))
    doubled = outputs.change(lambda images: 2 * images)
    np.testing.assert_array_equal(doubled.read(np.array([1])), 2 * RIGHT[1:2, :, :6])
    assert replace(doubled, images=outputs.images) == outputs
