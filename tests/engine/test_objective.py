"""The gradient of the loss with respect to the pixels, compared with finite differences in float64."""

import pytest
import torch

from gramophone_server.engine.kernels.gram import gram_matrix
from gramophone_server.engine.losses import CONTENT, GRAM, TOTAL_VARIATION
from gramophone_server.engine.losses.content import content_loss
from gramophone_server.engine.losses.gram import style_loss
from gramophone_server.engine.network import Network
from gramophone_server.engine.objective import Objective
from gramophone_server.engine.term import WeightedTerm
from gramophone_server.engine.tiling import cut
from gramophone_server.models.vgg import vgg


def canvas(n: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, 3, 12, 14, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=["bare", "headed"])
def objective(request, weights, heads, network) -> Objective:
    if request.param == "headed":
        network = Network(vgg(weights), weights, list(weights), heads=heads, dtype=torch.float64)
    return build(network, 2)


def build(network: Network, n: int) -> Objective:
    """Style at four layers, content at three, and total variation; each canvas has its own targets and weights."""
    features = network(canvas(n, seed=9))
    weight = torch.arange(1, n + 1, dtype=torch.float64)
    terms = [
        WeightedTerm(GRAM, name, gram_matrix(features[name]), weight / 3) for name in ("conv1_1", "conv2_1", "conv3_1")
    ]
    # A layer may have several terms: style of two regions, and style and content.
    halves = torch.zeros(2, 1, 6, 7, dtype=torch.float64)
    halves[0, ..., :3], halves[1, ..., 3:] = 1 / 18, 1 / 24
    for region, share in enumerate(halves):
        target = gram_matrix(features["conv2_2"], share).detach()
        terms.append(WeightedTerm(GRAM, "conv2_2", target, weight, share, region))
    for name in ("conv1_1", "conv2_2", "conv3_1"):
        terms.append(WeightedTerm(CONTENT, name, features[name].detach(), 0.1 * weight))
    visible = torch.linspace(0, 1, 42, dtype=torch.float64).view(1, 6, 7)
    terms.append(WeightedTerm(CONTENT, "conv2_1", features["conv2_1"].detach(), weight, visible))
    terms.append(WeightedTerm(TOTAL_VARIATION, "", None, 1e-6 * weight))
    pixels = torch.rand(1, 12, 14, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    terms.append(WeightedTerm(TOTAL_VARIATION, "", None, 1e-6 * weight, pixels / pixels.sum()))
    return Objective(network, terms)


def test_gradient_equals_finite_differences(objective):
    at = canvas(2)
    got = objective.evaluate(at)
    pick = torch.Generator().manual_seed(5)
    for _ in range(20):
        direction = torch.randn(at.shape, dtype=torch.float64, generator=pick)
        step = 1e-6
        ahead = objective.total(objective.losses(at + step * direction))
        behind = objective.total(objective.losses(at - step * direction))
        slope = (got.gradient * direction).sum((1, 2, 3))
        torch.testing.assert_close(slope, (ahead - behind) / (2 * step), rtol=1e-5, atol=1e-7)


def test_fixed_pixels_have_no_gradient_and_the_others_keep_theirs(objective):
    fixed = torch.zeros(1, 1, 12, 14, dtype=torch.bool)
    fixed[..., 3:7, :5] = True
    free = objective.evaluate(canvas(2)).gradient
    got = Objective(objective.network, objective.terms, fixed=fixed).evaluate(canvas(2)).gradient
    assert torch.equal(got, torch.where(fixed, 0, free))


def test_loss_is_the_weighted_sum_of_its_terms(objective):
    at = objective.evaluate(canvas(2))
    for n in range(2):
        by_hand = sum(at.terms[n, t] * term.weight[n] for t, term in enumerate(objective.terms))
        assert at.loss[n].item() == pytest.approx(by_hand.item(), rel=1e-12)


def test_losses_are_those_of_the_features_after_the_head(weights, heads):
    network = Network(vgg(weights), weights, list(weights), heads=heads, dtype=torch.float64)
    objective, features = build(network, 2), network(canvas(2))
    for term, got in zip(objective.terms, objective.losses(canvas(2)).T, strict=True):
        if term.target is None:
            continue
        match term.loss.kind:
            case "style":
                expected = style_loss(gram_matrix(features[term.layer], term.share), term.target)
            case "content":
                expected = content_loss(features[term.layer], term.target, term.share)
            case _:
                continue
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=0)


def test_canvases_of_a_batch_are_independent(network, objective):
    at = canvas(2)
    together = objective.evaluate(at)
    moved = at.clone()
    moved[1] = 1 - moved[1]
    again = objective.evaluate(moved)
    torch.testing.assert_close(again.gradient[0], together.gradient[0], rtol=1e-12, atol=1e-15)
    assert not torch.allclose(again.gradient[1], together.gradient[1])


def test_loss_and_gradient_are_zero_at_the_target(network):
    picture = canvas(1)
    target = gram_matrix(network(picture)["conv3_1"])
    at = Objective(network, [WeightedTerm(GRAM, "conv3_1", target, torch.ones(1))]).evaluate(picture)
    assert at.loss.item() == 0
    assert at.gradient.abs().max().item() == 0


def test_canvases_of_merged_objectives_have_the_losses_and_gradients_that_they_have_alone(weights, network):
    objectives = [build(network, 2), build(network, 1), build(network, 1)]
    assert len({one.structure for one in objectives}) == 1
    canvases = [canvas(2), canvas(1, seed=1), canvas(1, seed=2)]
    at = Objective.merged(objectives).evaluate(torch.cat(canvases))
    alone = [one.evaluate(own) for one, own in zip(objectives, canvases, strict=True)]
    for name in ("terms", "loss", "gradient"):
        torch.testing.assert_close(getattr(at, name), torch.cat([getattr(one, name) for one in alone]))


def test_merged_objectives_keep_the_fixed_pixels_of_each_canvas(network):
    fixed = torch.zeros(2, 1, 12, 14, dtype=torch.bool)
    fixed[0, ..., :5], fixed[1, ..., 9:] = True, True
    terms = build(network, 1).terms
    objectives = [Objective(network, terms, fixed=own[None]) for own in fixed]
    gradient = Objective.merged(objectives).evaluate(canvas(2)).gradient
    assert (gradient == 0).eq(fixed).all()


def test_objectives_that_differ_in_network_terms_or_tiles_have_another_structure(weights, network):
    one = build(network, 1)
    other_network = Network(vgg(weights), weights, list(weights), dtype=torch.float64)
    tiles = cut(48, 48, 32, stride=4, radius=8, least=4)
    assert len(tiles) > 1
    others = [
        build(other_network, 1),
        Objective(network, one.terms[:3]),
        Objective(network, one.terms[::-1]),
        Objective(network, one.terms, fixed=torch.zeros(1, 1, 12, 14, dtype=torch.bool)),
    ]
    assert one.structure not in [other.structure for other in others]
    assert Objective(network, one.terms[:3], tiles=tiles).structure is None
