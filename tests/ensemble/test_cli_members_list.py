"""`ens members list`: what can be trained, and what it costs."""

import json

import pytest

from ensemble.cli import run
from members import model_costs as prices
from members.architectures import ARCHITECTURES
from members.network import NormalisedNetwork

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def costs():
    return {cost.name: cost for cost in prices.zoo(rows=32, cols=64)}


def test_every_architecture_has_its_price(costs):
    assert set(costs) == set(ARCHITECTURES)
    assert all(cost.parameters > 0 and cost.multiply_adds > 0 for cost in costs.values())
    assert all(cost.source for cost in costs.values())


def test_parameters_are_those_of_the_network_that_is_trained(costs):
    network = NormalisedNetwork("unet", channels=1, classes=5)
    assert costs["unet"].parameters == sum(values.numel() for values in network.parameters())


def test_four_times_the_pixels_cost_four_times_the_multiply_adds_of_convolutions(
    costs, monkeypatch
):
    monkeypatch.setattr(prices, "ARCHITECTURES", Only(ARCHITECTURES))
    (larger,) = prices.zoo(rows=64, cols=128)
    assert larger.multiply_adds == 4 * costs["unet"].multiply_adds
    assert larger.parameters == costs["unet"].parameters


class Only:
    """A table of the U-Net alone."""

    def __init__(self, table):
        self.factory = table.factory

    def __iter__(self):
        return iter(["unet"])


def test_the_verb_prints_a_line_each(costs, capsys, monkeypatch):
    monkeypatch.setattr(prices, "zoo", lambda: list(costs.values()))
    assert run(["members", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["architectures"]
    assert run(["members", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [row["name"] for row in listed] == list(ARCHITECTURES)
    unet = next(row for row in listed if row["name"] == "unet")
    line = next(line for line in lines if line.startswith("unet "))
    assert f"{unet['parameters'] / 1e6:.2f} M" in line
    assert f"{unet['multiply_adds'] / 1e6:.0f} M" in line
