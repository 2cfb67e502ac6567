"""What a network from elsewhere is found to be, and what stops because it could be several."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from evaluation.core.errors import BadNetwork, BadSpec
from members.external_networks.description import NetworkDescription
from members.external_networks.examine import examine
from tests.members.external_networks.networks import (
    NAMES,
    Brightness,
    images_of,
    save_onnx,
    save_pt2,
    save_torchscript,
)

STORED = {"input_range": "0..255"}


def examined(path, data=None, **said):
    return examine("net", NetworkDescription(file=str(path), **said), data or images_of())


def labels_of(found, data):
    with torch.inference_mode():
        return found.network(torch.from_numpy(np.asarray(data.images))).argmax(dim=1).numpy()


def accuracy(found, data):
    return (labels_of(found, data) == data.masks).mean()


@pytest.mark.parametrize("kind", ["onnx", "torchscript", "pt2", "pt"])
def test_every_format_gives_the_labels_of_the_network(tmp_path, kind):
    data, path = images_of(), tmp_path / f"net.{kind}"
    if kind == "onnx":
        save_onnx(path)
    else:
        (save_pt2 if kind == "pt2" else save_torchscript)(Brightness(), path)
    found = examined(path, data, **STORED)
    expected = Brightness()(torch.from_numpy(data.images)).detach()
    with torch.inference_mode():
        torch.testing.assert_close(found.network(torch.from_numpy(data.images)), expected)
    assert accuracy(found, data) > 0.99
    assert any("undeclared" in note for note in found.notes)
    assert "of its labelled pixels as in the mask" in found.notes[-1]


@pytest.mark.parametrize(
    ("written", "said", "values"),
    [
        ({}, {}, "logits"),
        ({"nodes": [("Softmax", {"axis": 1})]}, {}, "probabilities"),
        ({"nodes": [("LogSoftmax", {"axis": 1})]}, {}, "logits"),
        ({"nodes": [("ArgMax", {"axis": 1, "keepdims": 0})]}, {}, "labels"),
        ({"nodes": [("ArgMax", {"axis": 1})]}, {}, "labels"),
        ({"last": True}, {}, "logits"),
        ({"dtype": 2}, {"input_range": None}, "logits"),
        ({"scale": 1.0}, {"input_range": "0..1"}, "logits"),
        ({"shape": (1, None, "h", "w")}, {}, "logits"),
        ({"shape": (4, None, "h", "w")}, {}, "logits"),
        ({"shape": ("n", None, 12, 16)}, {}, "logits"),
        ({"shape": ("n", None, 20, 20)}, {"tile": (20, 20)}, "logits"),
        ({"external": True}, {}, "logits"),
        ({"order": (2, 0, 1)}, {"class_names": ("tree", "ground", "water")}, "logits"),
        ({"order": (2, 0, 1)}, {"class_names": "tree, ground, water"}, "logits"),
    ],
)
def test_what_the_output_and_input_are_is_found_out(tmp_path, written, said, values):
    data = images_of()
    found = examined(save_onnx(tmp_path / "net.onnx", **written), data, **{**STORED, **said})
    assert found.network.reading.values == values
    assert accuracy(found, data) > 0.99


def test_large_images_are_compared_at_every_few_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr("members.external_networks.examine.MOST_VALUES", 1 << 10)
    data, path = images_of(), save_onnx(tmp_path / "net.onnx", order=(2, 0, 1))
    with pytest.raises(BadNetwork, match=r"say class_names: \[tree, ground, water\]"):
        examined(path, data, **STORED)
    found = examined(path, data, class_names=("tree", "ground", "water"), **STORED)
    assert accuracy(found, data) > 0.99


def test_probabilities_come_back_as_they_are(tmp_path):
    data = images_of()
    path = save_onnx(tmp_path / "net.onnx", nodes=[("Softmax", {"axis": 1})])
    found = examined(path, data, **STORED)
    images = torch.from_numpy(data.images)
    expected = Brightness(softmax=True)(images).detach()
    with torch.inference_mode():
        torch.testing.assert_close(found.network(images).softmax(dim=1), expected)


def test_a_smaller_output_is_interpolated_before_the_softmax(tmp_path):
    pool = [("AveragePool", {"kernel_shape": [4, 4], "strides": [4, 4]})]
    data = images_of()
    found = examined(save_onnx(tmp_path / "net.onnx", nodes=pool), data, **STORED)
    small = torch.nn.functional.avg_pool2d(Brightness()(torch.from_numpy(data.images)), 4)
    expected = torch.nn.functional.interpolate(small, (12, 16), mode="bilinear").detach()
    with torch.inference_mode():
        torch.testing.assert_close(found.network(torch.from_numpy(data.images)), expected)


def test_a_multiple_that_the_network_needs_is_found_by_padding(tmp_path):
    pool = [("AveragePool", {"kernel_shape": [4, 4], "strides": [4, 4]})]
    data = images_of(size=(12, 16))
    cut = data.images[:, :, :10, :13], data.masks[:, :10, :13]
    data = type(data)(*cut, data.ids, None, data.classes)
    found = examined(save_onnx(tmp_path / "net.onnx", nodes=pool), data, **STORED)
    assert found.network.reading.multiple == 4
    assert labels_of(found, data).shape == data.masks.shape


@pytest.mark.parametrize("side", [4, 8])
def test_an_output_of_the_size_of_an_example_is_no_smaller_map(tmp_path, side):
    """Traced networks may cut their output, which looks like half or a quarter of the scale."""

    class Cut(Brightness):
        def forward(self, images):
            return super().forward(images)[:, :, :side, :side]

    data, path = images_of(size=(16, 16)), save_torchscript(Cut(), tmp_path / "net.pt")
    with pytest.raises(BadNetwork, match=f"outputs {side} x {side} pixels whatever the image's"):
        examined(path, data, **STORED)


def test_an_image_of_another_size_is_not_stretched_to_fit(tmp_path):
    class Cut(Brightness):
        def forward(self, images):
            return super().forward(images)[:, :, :12, :16]

    data, path = images_of(size=(12, 16)), save_torchscript(Cut(), tmp_path / "net.pt")
    found = examined(path, data, **STORED)
    assert accuracy(found, data) > 0.99
    with pytest.raises(BadNetwork, match="outputs 12 x 16 pixels for an image of 24 x 32"):
        found.network(torch.zeros(1, 1, 24, 32))


@pytest.mark.parametrize("sign", [1, -1])
def test_one_channel_is_the_foreground_of_two_classes(tmp_path, sign):
    data = images_of(names=NAMES[:2])

    class One(torch.nn.Module):
        def forward(self, images):
            return sign * (images.float() - 80) / 10

    path = save_torchscript(One(), tmp_path / "net.pt")
    if sign == 1:
        found = examined(path, data, **STORED)
        assert accuracy(found, data) > 0.99
        return
    with pytest.raises(BadNetwork, match=r"1, 0\).*say class_names: \[ground\]"):
        examined(path, data, **STORED)
    assert accuracy(examined(path, data, class_names=("ground",), **STORED), data) > 0.99


def test_a_class_without_a_channel_has_the_rest(tmp_path):
    class Two(Brightness):
        def forward(self, images):
            return super().forward(images).softmax(dim=1)[:, :2]

    data, path = images_of(), save_torchscript(Two(), tmp_path / "net.pt")
    with pytest.raises(BadNetwork, match="outputs 2 channels of 3 classes; say class_names"):
        examined(path, data, **STORED)
    found = examined(path, data, class_names=NAMES[:2], **STORED)
    assert accuracy(found, data) > 0.99


def test_colours_in_the_other_order_are_found_by_agreement(tmp_path):
    """Its first channel is the image's last, which alone is reversed."""
    data = images_of(channels=3)

    class Last(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Brightness()

        def forward(self, images):
            return self.inner(255 - images[:, :1].float())

    path = save_torchscript(Last(), tmp_path / "net.pt", channels=3)
    with pytest.raises(BadNetwork, match=r"in the order bgr agree .* say channel_order"):
        examined(path, data, **STORED)
    found = examined(path, data, channel_order="bgr", **STORED)
    assert accuracy(found, data) > 0.99


def test_colours_in_the_order_of_the_images_are_taken_as_they_are(tmp_path):
    data, path = images_of(channels=3), save_onnx(tmp_path / "net.onnx", channels=3)
    found = examined(path, data, mean=0.0, std=1.0, **STORED)
    assert found.network.reading.channel_order == (0, 1, 2)
    assert accuracy(found, data) > 0.99
    assert "mean and std as said" in found.notes[0]


def test_a_network_of_one_size_is_examined_on_resized_images(tmp_path):
    data = images_of()
    path = save_onnx(tmp_path / "net.onnx", shape=("n", None, 24, 32))
    found = examined(path, data, size=(24, 32), **STORED)
    assert found.network.reading.fixed == (24, 32)
    assert "24 x 32 pixels alone" in found.notes[0]
    with pytest.raises(BadSpec, match="'size' of a network is examined on labelled images"):
        examined(path, replace(data, masks=None), size=(24, 32), **STORED)


@pytest.mark.parametrize("multiple", [2, 4])
def test_a_multiple_that_is_said_is_not_searched(tmp_path, multiple):
    pool = [("AveragePool", {"kernel_shape": [4, 4], "strides": [4, 4]})]
    data = images_of(size=(12, 16))
    data = replace(data, images=data.images[:, :, :10, :14], masks=data.masks[:, :10, :14])
    path = save_onnx(tmp_path / "net.onnx", nodes=pool)
    if multiple == 4:
        assert examined(path, data, multiple=4, **STORED).network.reading.multiple == 4
        return
    with pytest.raises(BadNetwork, match=r"outputs logits .* for an image of 10 x 14 pixels"):
        examined(path, data, multiple=2, **STORED)


class TestWithoutMasks:
    """Nothing tells the order of classes or colours, which is said."""

    def test_what_is_said_is_taken_and_the_notes_say_what_was_not_examined(self, tmp_path):
        data = images_of(channels=3)
        path = save_onnx(tmp_path / "net.onnx", channels=3)
        found = examined(path, replace(data, masks=None), **STORED)
        assert accuracy(found, data) > 0.99
        assert any("order of classes" in note and "not examined" in note for note in found.notes)
        assert found.notes[-1].startswith("image 'image-00': ")
        assert "as in the mask" not in found.notes[-1]

    def test_possible_scalings_are_listed_without_agreement(self, tmp_path):
        path = save_onnx(tmp_path / "net.onnx", scale=1.0)
        first = "say one of: 'input_range: 0..255', 'input_range: 0..1', 'input_range: 0..1, mean"
        with pytest.raises(BadNetwork, match=first):
            examined(path, replace(images_of(), masks=None))

    def test_masks_that_label_nothing_count_as_none(self, tmp_path):
        data = images_of()
        data = replace(data, masks=np.full_like(data.masks, 255))
        found = examined(save_onnx(tmp_path / "net.onnx"), data, **STORED)
        assert "as in the mask" not in found.notes[-1]


class Sigmoid(torch.nn.Module):
    """One channel, for pixels of 0 to 1."""

    def forward(self, images):
        return torch.sigmoid(40 * (images.float() - 80 / 255))


class Strange(torch.nn.Module):
    """Labels for pixels of 0 to 1; others are NaN, or a label that there is not."""

    def __init__(self, high):
        super().__init__()
        self.inner, self.high = Brightness(scale=1.0), high

    def forward(self, images):
        images, logits = images.float(), self.inner(images)
        if self.high == "nan":
            return torch.where(images > 1, torch.full_like(logits, torch.nan), logits)
        return torch.where(images[:, 0] > 1, 9, logits.argmax(dim=1))


@pytest.mark.parametrize(
    ("network", "names"),
    [(Sigmoid(), NAMES[:2]), (Strange("nan"), NAMES), (Strange("label"), NAMES)],
    ids=["foreground", "nan", "labels"],
)
def test_the_scaling_that_agrees_best_is_listed_first_whatever_the_output(tmp_path, network, names):
    data, path = images_of(names=names), save_torchscript(network, tmp_path / "net.pt")
    with pytest.raises(BadNetwork, match=r"say one of, .*: 'input_range: 0..1' \(1.00\)") as caught:
        examined(path, data)
    others = str(caught.value).partition("'input_range: 0..255'")[2].partition(",")[0]
    assert (others == "") == isinstance(network, Strange)  # nothing to compare
    assert accuracy(examined(path, data, input_range="0..1"), data) > 0.99


@pytest.mark.parametrize(
    ("scale", "said", "better"),
    [
        (255.0, "0..255", None),
        (1.0, "0..1", None),
        (1.0, "0..255", "input_range: 0..1"),
        (255.0, "0..1", "input_range: 0..255"),
    ],
)
def test_a_range_of_pixels_that_agrees_worse_than_another_is_doubted(tmp_path, scale, said, better):
    path = save_onnx(tmp_path / "net.onnx", scale=scale)
    notes = " ".join(examined(path, input_range=said).notes)
    assert (f"warning: with '{better}' it agrees with the masks in 1.00 " in notes) == bool(better)
    assert ("warning" in notes) == bool(better)


class TestWhatIsOpen:
    def test_scaling_stops_with_the_readings_and_their_agreement(self, tmp_path):
        path = save_onnx(tmp_path / "net.onnx", scale=1.0)
        with pytest.raises(BadNetwork, match="does not say how pixels are scaled") as caught:
            examined(path)
        words = str(caught.value)
        assert words.startswith("network 'net': ")
        first = words.partition("pixels: ")[2]
        assert first.startswith("'input_range: 0..1' (1.00), ")
        assert "'input_range: 0..255' (" in first

    @pytest.mark.parametrize(
        ("written", "said", "words"),
        [
            (
                {"order": (2, 0, 1)},
                {},
                r"shifted by one .*say class_names: \[tree, ground, water\]",
            ),
            ({"shape": ("n", None, 8, 8)}, {}, "say 'tile: 8x8' to cut and pad them, or 'size"),
            (
                {"channels": 3},
                {},
                "takes images of 3 channels; the run's have 1: say channel_order",
            ),
            ({"nodes": [("Sigmoid", {})]}, {}, "independent sigmoids, or logits"),
            ({"nodes": [("Softmax", {"axis": 1})]}, {"output": "logits"}, "said to give logits"),
            ({}, {"output": "probabilities"}, "is said to give probabilities, and values go"),
            ({}, {"key": "maps"}, "unknown output 'maps'; known: logits"),
            (
                {"order": (0, 1, 2, 0, 1)},
                {},
                r"outputs logits \(1, 5, 12, 16\) .*the run's 3 classes",
            ),
            ({"order": (0,)}, {}, r"outputs logits \(1, 1, 12, 16\)"),
            (
                {"shape": ("n", None, 12, "w")},
                {},
                r"\(any, 1, 12, any\); expected rows and columns",
            ),
            (
                {"channels": 3},
                {"channel_order": (0, 0)},
                "takes images of 3 channels; channel_order names 2",
            ),
        ],
    )
    def test_stops_with_what_to_say(self, tmp_path, written, said, words):
        path = save_onnx(tmp_path / "net.onnx", **written)
        with pytest.raises(BadNetwork, match=words) as caught:
            examined(path, **{**STORED, **said})
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("said", "words"),
        [
            ({"class_names": ("a", "b", "c")}, "class_names names 'a'; expected 3 of ground"),
            ({"class_names": NAMES[:2]}, "class_names has 2 names; expected 3"),
            ({"mean": (1.0, 2.0)}, "mean has 2 values; expected 1 or 1"),
            ({"std": 0.0}, "std holds 0.0; expected numbers above 0"),
            ({"channel_order": (1,)}, "channel_order names channel 1; the images have 1"),
            ({"input_range": None, "mean": 0.5, "std": -1.0}, "std holds -1.0; expected numbers"),
        ],
    )
    def test_what_contradicts_is_refused(self, tmp_path, said, words):
        path = save_onnx(tmp_path / "net.onnx")
        with pytest.raises(BadSpec, match=words):
            examined(path, **{**STORED, **said})

    def test_weights_alone_need_their_architecture(self, tmp_path):
        with pytest.raises(BadSpec, match=r"weights alone; say its 'architecture'"):
            examined(tmp_path / "net.safetensors", **STORED)

    def test_grey_images_may_be_repeated(self, tmp_path):
        data = images_of()
        path = save_onnx(tmp_path / "net.onnx", channels=3)
        assert accuracy(examined(path, data, channel_order=(0, 0, 0), **STORED), data) > 0.99

    def test_several_outputs_need_a_key(self, tmp_path):
        class Two(Brightness):
            def forward(self, images):
                logits = super().forward(images)
                return logits, -logits

        data, path = images_of(), save_torchscript(Two(), tmp_path / "net.pt")
        with pytest.raises(BadNetwork, match="say which holds the maps, such as key: output_0"):
            examined(path, data, **STORED)
        assert accuracy(examined(path, data, key="output_0", **STORED), data) > 0.99
