"""A registered network: what it is read from, and what it refuses when it predicts."""

import json

import pytest
import torch

from evaluation.core.errors import BadNetwork
from members.external_networks.network import (
    MODEL,
    READING,
    ExternalNetwork,
    NetworkReading,
    load_registered,
)
from members.external_networks.runtimes import InputShape, Runtime
from tests.members.external_networks.networks import Brightness, save_torchscript

WHOLE = {
    "file": f"{MODEL}.pt",
    "channel_order": [0],
    "output": "output",
    "order": [0, 1, 2],
}


class Computed(Runtime):
    """An opened network that computes anything."""

    input, parameters = InputShape(), None

    def __init__(self, function):
        self.function = function

    def __call__(self, images):
        return {"output": self.function(images)}

    def to(self, device):
        """Stay."""


def network_of(function, **changes):
    reading = NetworkReading.model_validate({**WHOLE, **changes})
    return ExternalNetwork(Computed(function), reading, "member 'm'")


@pytest.fixture
def folder(tmp_path):
    save_torchscript(Brightness(), tmp_path / WHOLE["file"])
    (tmp_path / READING).write_text(json.dumps(WHOLE))
    return tmp_path


def test_a_registered_network_computes_what_its_file_does(folder):
    images = torch.full((2, 1, 8, 12), 120.0)
    network = load_registered(folder, name="m", classes=3)
    assert network.num_parameters == 6
    with torch.inference_mode():
        torch.testing.assert_close(network(images), Brightness()(images))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"order": [0, 1]}, "has 2 classes; expected 3"),
        ({"file": "../network.pt"}, "expected a file in its own folder"),
        ({"batch": 0}, "'batch': .*greater than or equal to 1; register the network again"),
        ({"strange": 1}, "'strange': Extra inputs are not permitted; register the network again"),
        (None, f"lacks {READING}; register the network again"),
    ],
)
def test_a_damaged_record_is_refused(folder, changes, words):
    if changes is None:
        (folder / READING).unlink()
    else:
        (folder / READING).write_text(json.dumps({**WHOLE, **changes}))
    with pytest.raises(BadNetwork, match=words):
        load_registered(folder, name="m", classes=3)


def test_a_failure_names_the_member():
    def fail(images):
        raise BadNetwork("the network fails")

    with pytest.raises(BadNetwork, match=r"^member 'm': the network fails$"):
        network_of(fail)(torch.zeros(1, 1, 4, 4))


def test_an_output_that_is_gone_is_named_with_those_there_are():
    with pytest.raises(BadNetwork, match="member 'm': no output 'maps'; known: output"):
        network_of(lambda x: x, output="maps")(torch.zeros(1, 1, 4, 4))


def test_images_larger_than_a_fixed_size_are_refused_with_the_options():
    network = network_of(lambda x: x.repeat(1, 3, 1, 1), fixed=[4, 6])
    assert network(torch.zeros(1, 1, 3, 6)).shape == (1, 3, 3, 6)
    words = "takes images of 4 x 6 pixels alone, and got 4 x 8; say tile: 4x6 or size: 4x6"
    with pytest.raises(BadNetwork, match=words):
        network(torch.zeros(1, 1, 4, 8))


def test_labels_at_a_lower_scale_take_the_nearest_pixel_and_unknown_ones_are_refused():
    labels = {"layout": "row col", "values": "labels", "reduction": 2}
    network = network_of(lambda x: x[:, :, ::2, ::2].long(), **labels)
    images = torch.tensor([[0.0, 2.0], [1.0, 0.0]])[None, None].repeat_interleave(2, dim=2)
    images = images.repeat_interleave(2, dim=3)
    torch.testing.assert_close(network(images).argmax(dim=1), images[:, 0].long())
    with pytest.raises(BadNetwork, match="outputs a label without a class; expected 0 to 2"):
        network(images + 1)
