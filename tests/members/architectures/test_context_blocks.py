"""Blocks by hand: SegNet's pooling, attention, pyramids, scales, ghost features."""

import pytest
import torch

from members.architectures import ARCHITECTURES
from members.architectures.blocks import ASPP
from members.architectures.context import (
    ChannelAttention,
    PolarizedSelfAttention,
    SpatialAttention,
    StripPyramidPooling,
)
from members.architectures.efferdeepnet import Ghost, MixedDepthwise
from members.architectures.hierarchical_attention import merge_scales
from members.architectures.pan import FeaturePyramidAttention, GlobalAttentionUpsample
from members.architectures.segformer import ReducedAttention
from members.architectures.transformer import as_map, as_tokens

SHUT, OPEN = -100.0, 100.0  # what a sigmoid makes 0 and 1 of


def spot(size: int, value: float) -> torch.Tensor:
    """A dark square with one bright pixel at its centre."""
    image = torch.zeros(1, 1, size, size)
    image[..., size // 2, size // 2] = value
    return image


def fill(module: torch.nn.Module, weight: float, bias: float = 0.0) -> None:
    """Set every weight and bias of the convolutions and linear layers within."""
    for layer in module.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            torch.nn.init.constant_(layer.weight, weight)
            if layer.bias is not None:
                torch.nn.init.constant_(layer.bias, bias)


def pass_the_centre(convolution: torch.nn.Conv2d) -> None:
    """Make a 3 x 3 convolution add up its channels, each place by itself."""
    torch.nn.init.zeros_(convolution.weight)
    convolution.weight.data[:, :, 1, 1] = 1


def put(layer: torch.nn.Conv2d, target: int, source: int, weight: float) -> None:
    """Set one weight of a 1 x 1 convolution."""
    layer.weight.data[target, source] = weight


class TestSegNetPooling:
    """SegNet takes its indices from max pooling and unpools by them, whatever the memory layout."""

    @pytest.fixture
    def network(self):
        return ARCHITECTURES.build("segnet(width=2, depth=1)", channels=1, classes=2)

    def test_values_return_to_where_they_were_taken_from(self, network):
        image = torch.tensor(
            [[1.0, 2, 0, 0], [0, 0, 0, 7], [5, 0, 1, 1], [0, 0, 3, 1]], requires_grad=True
        )
        values, indices = network.pool(image[None, None])
        assert values.tolist() == [[[[2, 7], [5, 3]]]]
        assert indices.tolist() == [[[[1, 7], [8, 14]]]]
        back = network.unpool(10 * values, indices)
        assert back[0, 0].tolist() == [[0, 20, 0, 0], [0, 0, 0, 70], [50, 0, 0, 0], [0, 0, 30, 0]]
        back.sum().backward()
        assert image.grad is not None
        assert image.grad.count_nonzero() == 4

    @pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
    def test_unpooling_keeps_the_largest_of_four_and_drops_the_others(self, network, layout):
        features = torch.rand(2, 3, 6, 10).add(0.1).contiguous(memory_format=layout)
        values, indices = network.pool(features)
        largest = values.repeat_interleave(2, 2).repeat_interleave(2, 3) == features
        torch.testing.assert_close(network.unpool(values, indices), features * largest)


class TestPolarizedSelfAttention:
    def test_equal_weights_leave_the_features_unchanged(self):
        attention = PolarizedSelfAttention(4)
        fill(attention, 0.0)  # both weights are then one half, and their sum is 1
        features = torch.randn(2, 4, 5, 6)
        torch.testing.assert_close(attention(features), features)

    @pytest.mark.parametrize("asked", [1.0, -1.0])
    def test_channel_weights_depend_on_the_pixel_that_the_query_selects(self, asked):
        attention = ChannelAttention(2)
        fill(attention, 0.0)
        put(attention.query, 0, 0, 1000)  # where channel 0 is bright, and nowhere else
        put(attention.value, 0, 1, 1)  # channel 1
        attention.widen.weight.data[:] = torch.tensor([[1.0], [-1.0]])
        features = torch.randn(1, 2, 3, 3)
        features[0, :, 1, 2] = torch.tensor([10.0, asked])
        first, second = attention(features)[0, :, 0, 0].tolist()
        # layer normalisation makes +-1 of both, the sigmoid .731 and .269
        assert (first, second) == pytest.approx(
            (0.731, 0.269) if asked > 0 else (0.269, 0.731), 1e-2
        )

    def test_pixel_weights_depend_on_the_channel_that_the_query_selects(self):
        attention = SpatialAttention(4)
        fill(attention, 0.0)
        put(attention.query[1], 0, 0, 1000)  # value 0, if channel 0 is bright on average
        put(attention.value, 0, 1, 1)
        put(attention.value, 1, 2, 1)
        features = torch.zeros(1, 4, 2, 2)
        features[0, 0] = 1.0
        features[0, 1] = torch.tensor([[OPEN, SHUT], [0.0, 0.0]])
        features[0, 2] = 5.0  # goes into value 1, which the query does not pick
        assert attention(features)[0, 0].tolist() == [[1, pytest.approx(0)], [0.5, 0.5]]
        features[0, 0] = -1.0
        assert attention(features)[0, 0, 0, 1].item() == pytest.approx(
            0.993, abs=1e-3
        )  # sigmoid(5)


class TestStripPyramidPooling:
    def test_receptive_field_is_the_row_and_the_column(self):
        strips = StripPyramidPooling(1, 1, bands=(1,)).eval()
        fill(strips.branches, 1.0)
        pass_the_centre(strips.project[0])
        with torch.no_grad():
            seen = strips(spot(9, 9.0))[0, 0]
        assert (seen > 0.5).sum() == 9 + 9 - 1
        assert seen[4, 0] == pytest.approx(1, abs=1e-3)  # the mean of the row: 9 / 9
        assert seen[4, 4] == pytest.approx(9 + 1 + 1, abs=1e-2)  # itself, its row, its column
        assert seen[0, 0] == 0

    def test_two_bands_separate_the_upper_part_of_a_column_from_the_lower(self):
        strips = StripPyramidPooling(1, 1, bands=(2,)).eval()
        fill(strips.branches, 1.0)
        pass_the_centre(strips.project[0])
        image = torch.zeros(1, 1, 8, 8)
        image[0, 0, 1, 3] = 8.0
        with torch.no_grad():
            seen = strips(image)[0, 0]
        assert seen[0, 3] == pytest.approx(2, abs=1e-2)  # the mean of the upper 4 pixels
        assert seen[7, 3] == 0


class TestMiniASPP:
    def test_receptive_field_is_that_of_the_rate(self):
        aspp = ASPP(1, 1, rates=(2,), pooled=False).eval()
        fill(aspp, 1.0)
        with torch.no_grad():
            seen = aspp(spot(9, 1.0))[0, 0]
        assert {tuple(place) for place in seen.nonzero().tolist()} == {
            (row, col) for row in (2, 4, 6) for col in (2, 4, 6)
        }
        assert seen[4, 4] == pytest.approx(2, abs=1e-3)  # by the 1 x 1 branch too


class TestGlobalAttentionUpsample:
    @pytest.mark.parametrize(("bias", "passed"), [(SHUT, 0.0), (OPEN, 1.0)], ids=["shut", "open"])
    def test_gated_shallow_features_are_added_to_the_deep_ones(self, bias, passed):
        step = GlobalAttentionUpsample(1, 1).eval()
        fill(step.gate, 0.0, bias)
        pass_the_centre(step.shallow[0])
        with torch.no_grad():
            seen = step(spot(4, 1.0), torch.full((1, 1, 2, 2), 3.0))
        torch.testing.assert_close(seen, 3 + passed * spot(4, 1.0), atol=1e-4, rtol=0)

    def test_the_mean_of_each_deep_channel_sets_its_gate(self):
        step = GlobalAttentionUpsample(1, 2).eval()
        fill(step.gate, 0.0)
        put(step.gate[1], 0, 0, OPEN)
        put(step.gate[1], 1, 1, OPEN)
        pass_the_centre(step.shallow[0])
        deep = torch.zeros(1, 2, 2, 2)
        deep[0, 0, 0, 0], deep[0, 1, 1, 1] = 4.0, -4.0  # means 1 and -1
        with torch.no_grad():
            added = step(torch.ones(1, 1, 2, 2), deep) - deep
        assert added[0, 0].mean() == pytest.approx(1, abs=1e-3)
        assert added[0, 1].mean() == pytest.approx(0, abs=1e-3)


class TestFeaturePyramidAttention:
    @pytest.mark.parametrize("size", [(8, 16), (3, 5), (1, 1)])
    def test_features_are_multiplied_by_the_pyramid_and_the_mean_is_added(self, size):
        attention = FeaturePyramidAttention(4, 4).eval()
        fill(attention.widen, 0.0, 2.0)  # views that say 2 everywhere
        fill(attention.mean, 0.0, 3.0)
        with torch.no_grad():
            features = torch.randn(2, 4, *size)
            torch.testing.assert_close(attention(features), 2 * attention.main(features) + 3)


class TestHierarchicalAttention:
    def test_each_pixel_comes_from_the_scale_with_the_weight(self):
        coarse, fine = torch.full((1, 2, 4, 4), 5.0), torch.full((1, 2, 8, 8), -1.0)
        trust = torch.zeros(1, 1, 4, 4)
        trust[..., :2] = 1.0
        answer = merge_scales(coarse, trust, fine)
        assert (answer[..., :3] == 5).all()
        assert (answer[..., 5:] == -1).all()

    def test_scales_share_no_running_statistics(self):
        # Running means of two scales would mix, and fit neither when the network is used.
        network = ARCHITECTURES.build("hierarchical_attention(width=2)", channels=1, classes=3)
        assert not list(network.buffers())


class TestReducedAttention:
    def test_all_pixels_change_alike_when_they_attend_to_one_patch(self):
        attention = ReducedAttention(2, heads=1, reduction=4)
        torch.nn.init.eye_(attention.attention.project.weight)
        answer = attention(torch.randn(1, 2, 4, 4))
        torch.testing.assert_close(answer, answer[..., :1, :1].expand_as(answer))

    def test_as_map_inverts_as_tokens(self):
        features = torch.randn(2, 3, 4, 5)
        assert torch.equal(as_map(as_tokens(features), features), features)


class TestEfferDeepNet:
    def test_a_kernel_reaches_as_far_as_its_size(self):
        mixed = MixedDepthwise(3, stride=1)
        fill(mixed, 1.0)
        seen = mixed(spot(9, 1.0).expand(1, 3, 9, 9))[0]
        assert [int((channel > 0).sum()) for channel in seen] == [3 * 3, 5 * 5, 7 * 7]

    def test_ghosts_are_convolutions_of_the_primary_features(self):
        ghost = Ghost(1, 2).eval()
        fill(ghost, 1.0)
        with torch.no_grad():
            real, cheap = ghost(spot(5, 1.0))[0]
        assert (real > 0).sum() == 1
        assert (cheap > 0).sum() == 9
