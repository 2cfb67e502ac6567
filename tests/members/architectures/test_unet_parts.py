"""Parts of U-Nets by hand, and the outputs of networks in training."""

from typing import Any

import pytest
import torch
from torch import nn

from members.architectures import ARCHITECTURES
from members.architectures.blocks import AttentionGate, FeatureGate, SqueezeExcitation
from members.architectures.context import PyramidPooling
from members.architectures.transformer import TransformerBlock, positions
from members.architectures.unet_parts import Skip, layout, upsampling

SURE = 100.0  # a logit whose sigmoid is 1, and 0 when negative


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def constant(layer: nn.Conv2d, weight: float, bias: float = 0.0) -> None:
    nn.init.constant_(layer.weight, weight)
    if layer.bias is not None:
        nn.init.constant_(layer.bias, bias)


class TestSqueezeAndExcitation:
    def test_channel_weights_depend_on_the_means_over_the_image(self):
        block: Any = SqueezeExcitation(2)
        squeeze, excite = block.squeeze[1], block.excite[1]
        constant(squeeze, 0.0)
        squeeze.weight.data[0, 0] = 1.0  # the first squeezed channel is the mean of channel 0
        constant(excite, 0.0)
        excite.weight.data[1, 0] = 1.0  # and only channel 1 listens to it
        features = torch.ones(1, 2, 2, 2)
        features[0, 0] = torch.tensor([[0.0, 0.0], [0.0, 8.0]])  # mean 2
        weighed = block(features) / features
        torch.testing.assert_close(weighed[0, 0, 1, 1], torch.tensor(0.5))
        torch.testing.assert_close(weighed[0, 1], torch.full((2, 2), 2.0).sigmoid())

    def test_all_pixels_of_a_channel_have_one_weight(self):
        features = drawn(2, 8, 5, 7)
        weights = SqueezeExcitation(8)(features) / features
        torch.testing.assert_close(weights, weights[..., :1, :1].expand_as(weights))
        assert ((weights > 0) & (weights < 1)).all()
        assert not torch.allclose(weights[0], weights[1])


class TestAttentionGate:
    def test_pixels_pass_where_the_signal_is_high(self):
        gate: Any = AttentionGate(2)
        constant(gate.of_skip, 0.0)
        constant(gate.of_signal, 1.0)
        constant(gate.gate[1], SURE, bias=-SURE / 2)
        signal = torch.zeros(1, 2, 3, 3)
        signal[..., 1, 2] = 1.0
        skip = drawn(1, 2, 3, 3)
        passed = gate(skip, signal)
        torch.testing.assert_close(passed[..., 1, 2], skip[..., 1, 2])
        assert (passed.abs() > 1e-9).sum() == 2

    def test_all_channels_of_a_pixel_have_one_weight(self):
        skip = drawn(2, 6, 4, 5)
        weights = AttentionGate(6)(skip, drawn(2, 6, 4, 5, seed=1)) / skip
        torch.testing.assert_close(weights, weights[:, :1].expand_as(weights))
        assert weights[0, 0].std() > 0

    def test_skip_and_signal_must_both_be_high_to_exceed_the_bias(self):
        gate: Any = AttentionGate(1)
        constant(gate.of_skip, 1.0)
        constant(gate.of_signal, 1.0, bias=-1.5)
        constant(gate.gate[1], SURE, bias=-SURE / 2)
        skip = torch.tensor([0.0, 1.0, 0.0, 1.0]).reshape(1, 1, 2, 2)
        signal = torch.tensor([0.0, 0.0, 1.0, 1.0]).reshape(1, 1, 2, 2)
        torch.testing.assert_close(gate(skip, signal), skip * signal)


class TestSkip:
    def test_concat_puts_the_skip_before_the_features(self):
        skip, features = drawn(1, 3, 2, 2), drawn(1, 2, 2, 2, seed=1)
        join = Skip("concat", 2, 3)
        assert join.merged == 5
        assert torch.equal(join(skip, features), torch.cat([skip, features], dim=1))

    @pytest.mark.parametrize(
        ("logit", "share"), [(SURE, 1.0), (0.0, 0.5), (-SURE, 0.0)], ids=["open", "half", "shut"]
    )
    def test_gates_weight_the_skip_and_not_the_features(self, logit, share):
        skip, features = drawn(1, 2, 3, 3), drawn(1, 2, 3, 3, seed=1)
        joins: dict[str, Any] = {
            kind: Skip(kind, 2) for kind in ("gate_add", "gate_concat", "attention")
        }
        for kind, join in joins.items():
            constant(join.gate.gate[1 if kind == "attention" else 0], 0.0, bias=logit)
        apart = torch.cat([share * skip, features], dim=1)
        torch.testing.assert_close(joins["gate_add"](skip, features), share * skip + features)
        torch.testing.assert_close(joins["gate_concat"](skip, features), apart)
        torch.testing.assert_close(joins["attention"](skip, features), apart)
        assert {kind: join.merged for kind, join in joins.items()} == {
            "gate_add": 2,
            "gate_concat": 4,
            "attention": 4,
        }

    def test_a_feature_gate_has_a_weight_per_channel(self):
        gate: Any = FeatureGate(2)
        constant(gate.gate[0], 0.0)
        gate.gate[0].weight.data[0, 2] = SURE  # channel 0 opens where feature 0 is positive
        gate.gate[0].weight.data[1, 1] = SURE  # channel 1 where it is positive itself
        skip = torch.tensor([3.0, -5.0]).reshape(1, 2, 1, 1)
        features = torch.tensor([7.0, -7.0]).reshape(1, 2, 1, 1)
        torch.testing.assert_close(gate(skip, features).flatten(), torch.tensor([3.0, 0.0]))


class TestPyramidPooling:
    def test_two_bins_average_quarters_and_one_bin_the_image(self):
        spot = torch.zeros(1, 1, 4, 4)
        spot[..., 0, 0] = 16.0
        pooling: Any = PyramidPooling(1, 1, bins=(1, 2)).eval()
        for branch in pooling.branches:
            constant(branch[1], 1.0)
        project = pooling.project[0]
        constant(project, 0.0)
        project.weight.data[0, 1] = 1.0  # the branch with one bin
        with torch.no_grad():
            whole = pooling(spot)[0, 0]
            project.weight.data[0, 1:] = torch.tensor([0.0, 1.0])[:, None, None]
            quarters = pooling(spot)[0, 0]
        torch.testing.assert_close(whole, torch.ones(4, 4), atol=1e-4, rtol=0)
        # 16 / 4 = 4 in the first quarter, interpolated towards 0 in the others
        along = torch.tensor([1.0, 0.75, 0.25, 0.0])
        torch.testing.assert_close(quarters, 4 * along[:, None] * along, atol=1e-4, rtol=0)

    def test_takes_maps_with_fewer_rows_than_bins(self):
        assert PyramidPooling(4, 6)(drawn(2, 4, 2, 5)).shape == (2, 6, 2, 5)


class TestTransformerBlock:
    def test_every_pixel_attends_to_every_other(self):
        block = TransformerBlock(8, layers=1).eval()
        features = drawn(1, 8, 3, 4)
        changed = features.clone()
        changed[..., 0, 0] += drawn(8, seed=1)
        with torch.no_grad():
            moved = (block(changed) - block(features)).abs().amax(dim=1)
        assert (moved > 1e-6).all()

    def test_attention_with_equal_keys_is_the_mean_of_all_tokens(self):
        block: Any = TransformerBlock(4, layers=1, heads=2)
        attention = block.layers[0].attention
        nn.init.zeros_(attention.query.weight)
        nn.init.zeros_(attention.query.bias)
        nn.init.zeros_(attention.key_value.bias)
        nn.init.eye_(attention.project.weight)
        nn.init.zeros_(attention.project.bias)
        tokens = drawn(1, 5, 4)
        attention.key_value.weight.data[4:] = torch.eye(4)
        torch.testing.assert_close(
            attention(tokens), tokens.mean(dim=1, keepdim=True).expand(1, 5, 4)
        )

    def test_position_encodings_distinguish_equal_pixels(self):
        seen = TransformerBlock(8, layers=1)(torch.zeros(1, 8, 3, 4))[0].flatten(1)
        apart = torch.cdist(seen.T, seen.T) + torch.eye(12)
        assert apart.min() > 1e-3

    @pytest.mark.parametrize("width", [1, 2, 3, 8, 10])
    def test_waves_fit_any_width_and_size(self, width):
        assert positions(torch.zeros(2, width, 5, 3)).shape == (width, 5, 3)
        assert TransformerBlock(width)(drawn(1, width, 5, 3)).shape == (1, width, 5, 3)

    def test_the_first_waves_are_the_row_and_the_column_in_radians(self):
        waves = positions(torch.zeros(1, 8, 4, 4))
        row = torch.arange(4.0)[:, None].expand(4, 4)
        torch.testing.assert_close(waves[0], row.sin())
        torch.testing.assert_close(waves[1], row.cos())
        torch.testing.assert_close(waves[4], row.T.sin())


class TestUpsampling:
    @pytest.mark.parametrize("kind", ["transpose", "bilinear"])
    def test_doubles_the_size(self, kind):
        assert upsampling(kind, 4, 3)(drawn(1, 4, 2, 5)).shape == (1, 3, 4, 10)


class TestEncoderLayout:
    def test_vgg16_has_its_thirteen_convolutions_before_a_bottleneck_at_depth_5(self):
        widths, counts = layout("vgg16", width=64, depth=5, convolutions=2)
        assert widths[:5] == [64, 128, 256, 512, 512]
        assert counts[:5] == [2, 2, 3, 3, 3]
        network = ARCHITECTURES.build(
            "unet(width=2, depth=5, encoder=vgg16)", channels=3, classes=2
        )
        found = [m for m in network.encoder.modules() if isinstance(m, nn.Conv2d)]
        assert len(found) == 13


@pytest.mark.parametrize(
    ("spec", "count"),
    [
        ("unet_plus_plus(width=2, depth=3)", 1),
        ("unet_plus_plus(width=2, depth=3, deep_supervision=True)", 3),
        ("double_unet(width=2, depth=2)", 2),
        ("hierarchical_unet(width=2, depth=1, levels=3)", 3),
        ("basnet(width=2)", 8),
        ("basnet(width=2, deep_supervision=False)", 1),
        ("mars_seg(width=2, deep_supervision=True)", 3),
    ],
)
class TestOutputsInTraining:
    def test_are_of_full_size_and_single_in_evaluation_mode(self, spec, count):
        network = ARCHITECTURES.build(spec, channels=1, classes=3)
        images = drawn(2, 1, 32, 64)
        outputs = network(images)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        assert [each.shape for each in outputs] == [(2, 3, 32, 64)] * count
        with torch.no_grad():
            assert network.eval()(images).shape == (2, 3, 32, 64)

    def test_begin_with_the_main_one(self, spec, count):
        # Batch normalisation with fixed statistics, so that training differs by its outputs alone.
        network = ARCHITECTURES.build(spec, channels=1, classes=3).eval()
        images = drawn(2, 1, 32, 64)
        with torch.no_grad():
            main = network(images)
            network.training = True
            outputs = network(images)
        if "plus_plus" in spec and count > 1:
            torch.testing.assert_close(torch.stack(outputs).mean(dim=0), main)
        else:
            assert torch.equal(outputs[0] if isinstance(outputs, tuple) else outputs, main)


@pytest.mark.parametrize("name", ["double_unet", "hierarchical_unet"])
def test_the_last_output_depends_on_the_first_part_alone(name):
    network = ARCHITECTURES.build(f"{name}(width=2, depth=2)", channels=1, classes=3)
    first, *others = network.parts
    network(drawn(2, 1, 32, 64))[-1].square().mean().backward()
    assert all(parameter.grad is not None for parameter in first.parameters())
    assert all(p.grad is None for part in others for p in part.parameters())
