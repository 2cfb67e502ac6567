"""Properties of every architecture: sizes, gradients, seeds."""

import pytest
import torch
from torch.nn import functional

from evaluation.core.errors import BadData, BadSpec
from evaluation.core.ragged import Extent
from members.architectures import ARCHITECTURES
from members.architectures.blocks import ASPP
from members.network import NormalisedNetwork, check_size

STEPS = 200  # by 120 SegNet has .92 on some processors, whose sums round otherwise
SPECS = [
    "unet(width=2, depth=2)",
    "unet(width=2, depth=3, convolutions=3, dropout=0.2)",
    "unet(width=2, depth=2, bottleneck=aspp)",
    "unet(width=2, depth=2, kernel_size=5, activation=leaky_relu, up=bilinear)",
    "unet(width=2, depth=2, activation=elu, bottleneck=se)",
    "unet(width=2, depth=2, activation=gelu, bottleneck=transformer)",
    "unet(width=2, depth=5, encoder=vgg16, dropout=0.2)",
    "unet(width=2, depth=2, bottleneck=ppm, se=True)",
    "unet(width=2, depth=2, bottleneck=aspp, se=True)",
    "unet(width=2, depth=2, skip=gate_add)",
    "unet(width=2, depth=2, skip=gate_concat)",
    "unet(width=2, depth=2, skip=attention)",
    "unet_plus_plus(width=2, depth=3)",
    "unet_plus_plus(width=2, depth=2, up=bilinear, deep_supervision=True, se=True)",
    "double_unet(width=2, depth=2)",
    "hierarchical_unet(width=2, depth=2)",
    "hierarchical_unet(width=2, depth=1, levels=2, se=True)",
    "basnet(width=2)",
    "basnet(width=2, depth=2, deep_supervision=False)",
    "deeplab_v3_plus(width=2)",
    "pan(width=2)",
    "pan(width=2, decoder=fpn, se=True, dropout=0.2)",
    "segnet(width=2, depth=3)",
    "efferdeepnet(width=2, dropout=0.2)",
    "segformer(width=2, dropout=0.2)",
    "hierarchical_attention(width=2, dropout=0.2)",
    "hierarchical_attention(width=2, scales=3, dropout=0.2)",
    "pix2pix(width=2, depth=3, dropout=0.2)",
    "mars_seg(width=2)",
    "mars_seg(width=2, deep_supervision=True)",
]


def drawn(channels: int = 1, rows: int = 16, cols: int = 24) -> torch.Tensor:
    shape = (2, channels, rows, cols)
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)).byte()


def built(spec: str, *, channels: int = 1, classes: int = 3, seed: int = 0) -> NormalisedNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NormalisedNetwork(spec, channels=channels, classes=classes)


def outputs(network: NormalisedNetwork, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    found = network(images)
    return found if isinstance(found, tuple) else (found,)


def share_right(network: NormalisedNetwork, images: torch.Tensor, target: torch.Tensor) -> float:
    with torch.no_grad():
        right = network.eval()(images).argmax(1) == target
    network.train()
    return float(right.float().mean())


def test_the_specs_here_cover_the_table():
    assert {spec.partition("(")[0] for spec in SPECS} == set(ARCHITECTURES)


@pytest.mark.parametrize("spec", SPECS)
class TestEveryNetwork:
    @pytest.mark.parametrize(
        ("channels", "classes", "size"),
        [(1, 2, (64, 128)), (3, 7, (64, 128)), (1, 7, (70, 97)), (3, 2, (70, 97))],
    )
    def test_gives_logits_of_the_images_size(self, spec, channels, classes, size):
        network = built(spec, channels=channels, classes=classes)
        for logits in outputs(network, drawn(channels, *size)):
            assert logits.shape == (2, classes, *size)
        assert network.eval()(drawn(channels, *size)).shape == (2, classes, *size)

    def test_reaches_every_parameter_with_a_finite_gradient(self, spec):
        network = built(spec)
        sum(logits.square().mean() for logits in outputs(network, drawn())).backward()
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name

    @pytest.mark.parametrize("side", [8, 32])
    def test_learns_from_one_image_whose_deepest_level_is_a_pixel(self, spec, side):
        network = built(spec)
        image = drawn(1, max(side, 8), max(side, 8))[:1]
        sum(logits.square().mean() for logits in outputs(network, image)).backward()
        grads = [p.grad for p in network.parameters() if p.grad is not None]
        assert grads
        assert all(grad.isfinite().all() for grad in grads)

    def test_is_the_same_for_the_same_seed(self, spec):
        images = drawn()
        assert torch.equal(built(spec).eval()(images), built(spec).eval()(images))
        assert not torch.equal(built(spec).eval()(images), built(spec, seed=1).eval()(images))

    @pytest.mark.slow
    def test_memorises_eight_images(self, spec):
        # Stripes whose label is their brightness: what any network can learn, if it learns at all.
        generator = torch.Generator().manual_seed(1)
        stripes = torch.randint(0, 3, (8, 1, 1, 3), generator=generator)
        target = stripes.repeat_interleave(8, dim=3).expand(8, 1, 16, 24)
        images, target = (target * 100).byte(), target[:, 0]
        network = built(spec.replace("width=2", "width=4").replace("dropout=0.2", "dropout=0"))
        network.fit_normalisation([images])
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
        rates = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=STEPS)
        for step in range(STEPS):
            if step % 20 == 0 and share_right(network, images, target) > 0.99:
                break
            losses = [functional.cross_entropy(o, target) for o in outputs(network, images)]
            loss = torch.stack(losses).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rates.step()
        assert share_right(network, images, target) > 0.95


class TestNormalisedNetwork:
    def test_padding_has_no_effect_if_the_stride_divides_the_size(self):
        network = built("unet(width=2, depth=2)").eval()
        images = drawn()
        values = (images.float() - network.mean) / network.deviation
        torch.testing.assert_close(network(images), network.body(values))

    def test_normalises_by_the_training_images(self):
        network = built("unet(width=2, depth=2)")
        network.fit_normalisation([torch.tensor([[[[0, 200]]]], dtype=torch.uint8)])
        assert network.mean.item() == 100
        assert network.deviation.item() == pytest.approx(141.42, abs=0.01)

    def test_the_normalisation_is_part_of_the_weights(self):
        assert {"mean", "deviation"} <= set(built("unet(width=2, depth=2)").state_dict())


def test_weights_are_sampled_where_there_is_memory_for_them(monkeypatch):
    sampled = []
    monkeypatch.setattr(torch.nn.init, "kaiming_normal_", lambda *_, **__: sampled.append(0))
    for device in ("meta", "cpu"):
        with torch.device(device):
            NormalisedNetwork("unet(width=2, depth=2)", channels=1, classes=3)
        assert bool(sampled) == (device == "cpu")


class TestAtrousSpatialPyramidPooling:
    def test_receptive_field_is_that_of_the_rate_and_of_the_pooled_branch(self):
        aspp = ASPP(1, 1, rates=(3,)).eval()
        for branch in (aspp.dilated[0][0], aspp.point[0], aspp.pooled[1], aspp.project[0]):
            torch.nn.init.ones_(branch.weight)
        torch.nn.init.zeros_(aspp.pooled[1].bias)
        spot = torch.zeros(1, 1, 9, 9)
        spot[..., 4, 4] = 81.0
        with torch.no_grad():
            seen = aspp(spot)[0, 0]
        # pooled: 81 / 81 = 1 everywhere; the centre and 8 places 3 pixels away see the spot too
        assert (seen > 1.5).sum() == 9
        assert seen[1, 1] > 1.5
        assert seen[0, 0] == pytest.approx(1.0, abs=1e-3)


class TestRefusals:
    @pytest.mark.parametrize(
        ("spec", "words"),
        [
            ("unet(width=0)", "option 'width' got 0; expected greater than or equal to 1"),
            ("unet(skip=add)", "option 'skip' got add; expected 'concat', 'gate_add', 'gate_"),
            ("unet(kernel_size=4)", "option 'kernel_size' got 4; expected 1, 3, 5, 7 or 9"),
            ("unet(breadth=3)", "architecture 'unet' has no option 'breadth'; known: width"),
            ("resnet", "unknown architecture 'resnet'; known: basnet, deeplab_v3_plus, "),
            ("unet(8)", "architecture 'unet' got 8 without a name; write option=value"),
        ],
    )
    def test_bad_options_are_refused_with_the_valid_values(self, spec, words):
        with pytest.raises(BadSpec) as refusal:
            ARCHITECTURES.build(spec, channels=1, classes=3)
        assert words in str(refusal.value)

    def test_images_below_the_stride_are_refused(self):
        check_size("unet(depth=3)", Extent.uniform(1, (8, 64)))
        with pytest.raises(
            BadData, match=r"images are 8 x 64; unet\(depth=4\) needs at least 16 x"
        ):
            check_size("unet(depth=4)", Extent(((5, (64, 64)), (1, (8, 64)))))
