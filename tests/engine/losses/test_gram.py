"""Losses compared with the paper's sums as loops, and their gradients with finite differences in float64."""

import itertools

import pytest
import torch

from gramophone_server.engine.kernels.gram import gram_matrix, tap_gram_matrix
from gramophone_server.engine.losses import TOTAL_VARIATION, Layer, LayerView
from gramophone_server.engine.losses.content import content_loss
from gramophone_server.engine.losses.gram import style_loss
from gramophone_server.engine.losses.total_variation import total_variation

SHAPE = (2, 3, 4, 5)


@pytest.fixture
def features() -> torch.Tensor:
    return torch.rand(SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def others() -> torch.Tensor:
    return torch.rand(SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def gram_by_loops(features: torch.Tensor, n: int) -> list[list[float]]:
    """Equation 3: G_ij = Σ_k F_ik F_jk."""
    _, channels, height, width = features.shape
    return [
        [
            sum(
                features[n, i, y, x].item() * features[n, j, y, x].item()
                for y, x in itertools.product(range(height), range(width))
            )
            for j in range(channels)
        ]
        for i in range(channels)
    ]


def test_gram_matrix_equals_the_triple_loop(features):
    _, _, height, width = SHAPE
    got = gram_matrix(features)
    for n in range(SHAPE[0]):
        expected = torch.tensor(gram_by_loops(features, n), dtype=torch.float64) / (height * width)
        torch.testing.assert_close(got[n], expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("channels", [64, 48])
def test_gram_matrix_of_many_positions_in_bfloat16_is_as_accurate_as_its_features(channels):
    side = 230
    x = torch.rand(2, channels, side, side, generator=torch.Generator().manual_seed(3)).bfloat16()
    x = x.contiguous(memory_format=torch.channels_last)
    got = gram_matrix(x)
    assert got.dtype == torch.float32
    for one, features in zip(got, x, strict=True):
        rows = features.double().flatten(1)
        torch.testing.assert_close(one.double(), rows @ rows.T / side**2, rtol=2e-5, atol=0)
        assert torch.equal(gram_matrix(features[None])[0], one)


def share() -> torch.Tensor:
    """The weights (N, H, W) of the positions, different for the two canvases."""
    return torch.rand(SHAPE[0], *SHAPE[2:], dtype=torch.float64, generator=torch.Generator().manual_seed(4))


def test_guided_gram_matrix_equals_the_loop_with_shares(features):
    got = gram_matrix(features, share())
    for n, i, j in itertools.product(range(SHAPE[0]), range(SHAPE[1]), range(SHAPE[1])):
        expected = (share()[n] * features[n, i] * features[n, j]).sum()
        assert got[n, i, j].item() == pytest.approx(expected.item(), rel=1e-12)


def test_style_loss_equals_equation_4(features, others):
    _, channels, height, width = SHAPE
    got = style_loss(gram_matrix(features), gram_matrix(others))
    for n in range(SHAPE[0]):
        g, a = gram_by_loops(features, n), gram_by_loops(others, n)
        squares = sum((g[i][j] - a[i][j]) ** 2 for i in range(channels) for j in range(channels))
        assert got[n].item() == pytest.approx(squares / (4 * channels**2 * (height * width) ** 2), rel=1e-12)


def test_style_loss_with_a_head_is_the_loss_of_head_times_features(features, others):
    head = torch.randn(SHAPE[1], SHAPE[1], generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    headed = torch.einsum("oc,nchw->nohw", head, features)
    got = style_loss(gram_matrix(features), gram_matrix(others), head)
    torch.testing.assert_close(got, style_loss(gram_matrix(headed), gram_matrix(others)))


def test_content_loss_of_visible_positions_equals_the_loop(features, others):
    got = content_loss(features, others, share())
    for n in range(SHAPE[0]):
        expected = sum(
            share()[n, y, x].item() * (features[n, c, y, x].item() - others[n, c, y, x].item()) ** 2 / 2
            for c, y, x in itertools.product(*(range(side) for side in SHAPE[1:]))
        )
        assert got[n].item() == pytest.approx(expected, rel=1e-12)


def test_content_loss_equals_equation_1(features, others):
    got = content_loss(features, others)
    for n in range(SHAPE[0]):
        pairs = zip(features[n].flatten().tolist(), others[n].flatten().tolist(), strict=True)
        assert got[n].item() == pytest.approx(sum((f - p) ** 2 for f, p in pairs) / 2, rel=1e-12)


def test_total_variation_of_a_ramp_and_of_one_color():
    ramp = torch.arange(5).float().expand(1, 3, 4, 5) / 255
    assert total_variation(ramp).item() == pytest.approx(1, rel=1e-5)
    assert total_variation(torch.full((1, 3, 4, 5), 0.3)).item() == 0


def test_total_variation_of_visible_pixels_equals_the_loop(features):
    pixels = share()[:1]
    whole = LayerView(Layer(*SHAPE[2:]), features, None, slice(None), slice(None), pixels)
    _, got = TOTAL_VARIATION.statistic(whole, None)
    for n in range(SHAPE[0]):
        expected = 0.0
        for c, y, x in itertools.product(*(range(side) for side in SHAPE[1:])):
            for other in ((y + 1, x), (y, x + 1)):
                if other[0] < SHAPE[2] and other[1] < SHAPE[3]:
                    difference = 255 * (features[n, c, y, x] - features[n, c, *other]).item()
                    expected += pixels[0, y, x].item() * difference**2 / SHAPE[1]
        assert got[n].item() == pytest.approx(expected, rel=1e-12)


def test_total_variation_does_not_grow_with_the_picture():
    noise = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    assert total_variation(noise.repeat(1, 1, 4, 4)).item() == pytest.approx(total_variation(noise).item(), rel=0.05)


@pytest.mark.parametrize("name", ["style", "guided", "headed", "content", "variation"])
def test_gradients_equal_finite_differences(name, features, others):
    loss = {
        "style": lambda f: style_loss(gram_matrix(f), gram_matrix(others)),
        "guided": lambda f: style_loss(gram_matrix(f, share()), gram_matrix(others)),
        "headed": lambda f: style_loss(gram_matrix(f), gram_matrix(others), others[0, :, : SHAPE[1], 0]),
        "content": lambda f: content_loss(f, others),
        "variation": lambda f: total_variation(f) / 255**2,
    }[name]
    assert torch.autograd.gradcheck(loss, features.requires_grad_(), eps=1e-6, atol=1e-8)


def test_low_precision_features_are_accumulated_in_float32():
    # 70,000 ones: a sum in bfloat16 stops at 256, so that the mean would not be 1.
    ones = torch.ones(1, 2, 200, 350, dtype=torch.bfloat16)
    got = gram_matrix(ones)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, torch.ones(1, 2, 2))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("interior", [None, (slice(1, 4), slice(2, 5)), (slice(2, 2), slice(0, 5))])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("with_next_layer", [False, True])
def test_a_tapped_gram_matrix_has_the_gradient_of_its_definition(
    features, others, shared, interior, layout, with_next_layer
):
    """For any interior and shares of the positions, and any memory layout of the incoming gradient."""
    features = features.contiguous(memory_format=torch.channels_last).requires_grad_()
    inside = features if interior is None else features[:, :, *interior]
    share = torch.rand(1, *inside.shape[2:], dtype=torch.float64) if shared else 0.3
    # The gradient of a product has the memory layout of the other factor.
    weight, target = others.contiguous(memory_format=layout), torch.eye(SHAPE[1], dtype=torch.float64)

    def gradient(features_after: torch.Tensor, gram: torch.Tensor) -> torch.Tensor:
        loss = style_loss(gram, target).sum() + (features_after * weight).sum() * with_next_layer
        return torch.autograd.grad(loss, features)[0]

    flat = inside.flatten(2)
    expected = torch.einsum("nik,njk,nk->nij", flat, flat, (torch.ones_like(inside[:, 0]) * share).flatten(1))
    same, gram = tap_gram_matrix(features, share, interior)
    torch.testing.assert_close(gram, expected)
    torch.testing.assert_close(gradient(same, gram), gradient(features, expected))
