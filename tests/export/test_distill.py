"""The training of vgg19-slim on a small scale: a teacher with random weights, and generated pictures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gramophone_export.distill.evaluation import evaluate
from gramophone_export.distill.export import write_student
from gramophone_export.distill.loss import gradient_loss, pair_losses, total
from gramophone_export.distill.networks import GRAM_LAYERS, STEM, Student, Teacher
from gramophone_export.distill.pictures import Photos, crop, list_photos, perturbed
from gramophone_export.distill.pool import Entry, Pair, Pool
from gramophone_export.distill.recipe import Recipe
from gramophone_export.distill.train import CHECKPOINT, LOG, Training
from gramophone_export.random_weights import dead_leaves
from gramophone_server.engine.kernels.gram import gram_matrix
from gramophone_server.engine.losses.gram import style_loss
from gramophone_server.models.layers import STYLE_LAYERS
from gramophone_server.models.store import ModelStore
from gramophone_server.models.vgg import VGG19_LAYERS

RECIPE = Recipe(
    side=32, pairs=2, steps=6, walkers=2, refresh=2, fresh=2, begin=2, stretch=(1, 2), ages=2, capacity=12,
    widths={1: 4, 2: 4, 3: 8, 4: 8, 5: 8},
)  # fmt: skip


@pytest.fixture(scope="module")
def weights() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Random weights with the shapes of VGG-19 up to conv5_1."""
    rng = np.random.default_rng(0)
    channels = dict(zip("12345", (64, 128, 256, 512, 512), strict=True))
    made, inputs = {}, 3
    for name in VGG19_LAYERS[: VGG19_LAYERS.index("conv5_1") + 1]:
        width = channels[name[4]]
        kernel = rng.standard_normal((width, inputs, 3, 3), np.float32) * np.float32((2 / (9 * inputs)) ** 0.5)
        made[name], inputs = (kernel, np.zeros(width, np.float32)), width
    return made


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(9):
        Image.fromarray(dead_leaves(np.random.default_rng(seed), 48)).save(folder / f"{seed}.png")
    return folder


def interrupted(after: int, weights, photos: Path, folder: Path) -> Training:
    """Runs a training that is interrupted after `after` steps and resumed from its checkpoint."""
    first = Training(RECIPE, weights, photos, folder)
    for _ in range(after):
        first._update()
    first.save()
    second = Training(RECIPE, weights, photos, folder)
    assert second.step == after
    assert second.run(report=lambda line: None)
    return second


@pytest.mark.slow
def test_an_interrupted_training_ends_with_the_same_bytes(weights, photos, tmp_path):
    whole = Training(RECIPE, weights, photos, tmp_path / "whole")
    start = {name: value.clone() for name, value in whole.student.state_dict().items()}
    assert whole.run(report=lambda line: None)
    models = []
    for number, training in enumerate([whole, interrupted(3, weights, photos, tmp_path / "interrupted")]):
        root = tmp_path / f"models{number}"
        models.append(write_student(root, training.average(), training.teacher.scales, RECIPE, training.step))
    assert models[0].path.read_bytes() == models[1].path.read_bytes()
    assert models[0].manifest == models[1].manifest
    # All layers have been trained.
    assert all(not torch.equal(value, start[name]) for name, value in whole.student.state_dict().items())
    assert ModelStore(tmp_path / "models0").get("slim").manifest.layers[0].head


def test_the_learning_rate_falls_to_zero_in_both_periods():
    recipe = Recipe(steps=600, restart=400, rate=0.1)
    rates = [recipe.learning_rate(step) for step in (0, 99, 200, 399, 400, 500, 599)]
    assert rates == pytest.approx([0.001, 0.1 * 301 / 400, 0.05, 0.1 / 400, 0.1 / 3, 0.1 / 6, 0.1 / 600])
    assert Recipe(steps=300, restart=400, rate=0.1).learning_rate(150) == pytest.approx(0.05)


def test_another_seed_gives_another_student(weights, photos, tmp_path):
    students = [Training(Recipe(**vars(RECIPE) | {"seed": s}), weights, photos, tmp_path / f"{s}") for s in (1, 2)]
    first, second = (training.student.kernels["conv1_1"] for training in students)
    assert not torch.equal(first, second)


@pytest.mark.slow
def test_log_lines_after_the_checkpoint_are_removed_on_resume(weights, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("gramophone_export.distill.train._LOG_EVERY", 1)
    training = Training(RECIPE, weights, photos, tmp_path)
    training.run(report=lambda line: None)
    checkpoint = (tmp_path / CHECKPOINT).read_bytes()
    lines = (tmp_path / LOG).read_text().splitlines()
    assert len(lines) == RECIPE.steps
    (tmp_path / LOG).write_text("\n".join([*lines, lines[-1].replace('"step": 6', '"step": 7')]) + "\n")
    (tmp_path / CHECKPOINT).write_bytes(checkpoint)
    Training(RECIPE, weights, photos, tmp_path)
    assert (tmp_path / LOG).read_text().splitlines() == lines


def test_style_losses_of_the_heads_equal_those_of_mapped_gram_matrices(weights):
    """Equation 4 for the features of the heads equals equation 4 for P G Pᵀ, which has the teacher's channels."""
    student = Student(RECIPE.layers, RECIPE.widths, torch.Generator().manual_seed(0))
    scales = dict.fromkeys(RECIPE.layers, 7.0)
    a, b = torch.rand(2, 1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    network = student.network(STYLE_LAYERS, scales, torch.float32)
    with torch.no_grad():
        for name in STYLE_LAYERS:
            p = 7 * student.maps[name]
            grams = [p @ gram_matrix(student(canvas)[name]) @ p.T for canvas in (a, b)]
            headed = [gram_matrix(network(canvas)[name]) for canvas in (a, b)]
            torch.testing.assert_close(
                style_loss(*headed), style_loss(*grams), rtol=0.05 if name > "conv4" else 0.02, atol=0
            )


@pytest.mark.parametrize("reactivated", [True, False])
def test_a_silent_channel_is_reactivated(reactivated, weights, photos, tmp_path):
    """The silence loss changes the kernel and the bias of a channel that has no gradient because of ReLU."""
    recipe = Recipe(**vars(RECIPE) | ({} if reactivated else {"silence": 0.0}))
    training = Training(recipe, weights, photos, tmp_path)
    kernel, bias = (part["conv3_1"] for part in (training.student.kernels, training.student.biases))
    with torch.no_grad():
        bias[2] = -30.0
    before = kernel[2].clone()
    silence: list[torch.Tensor] = []
    assert training.student(torch.rand(4, 3, 32, 32), silence)["conv3_1"][:, 2].max() == 0
    assert 10 < silence[0].item() < 30
    training._update()
    assert (bias[2] > -30.0) == reactivated
    assert torch.equal(kernel[2], before) != reactivated


def test_pair_losses_equal_their_formulas(weights):
    teacher = Teacher(weights, RECIPE.layers, [torch.rand(3, 32, 32)])
    student = Student(RECIPE.layers, RECIPE.widths, torch.Generator().manual_seed(0))
    picture, style = (Entry.of(p) for p in torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)))
    losses = pair_losses(student, teacher, [Pair(picture, style)], torch.float32)
    with torch.no_grad():
        theirs, ours = [], []
        for entry in (picture, style):
            canvas = entry.picture.float()[None]
            theirs.append(teacher.features(canvas))
            ours.append(student(canvas))
        for name in RECIPE.layers:
            step = 2 if name < "conv3" else 1
            # The first layer of the student already has a stride of 2.
            own = 1 if name == STEM else step
            p = student.maps[name]
            found = [torch.einsum("tc,nchw->nthw", p, o[name]) for o in ours]
            errors = []
            for f, t in zip(found, theirs, strict=True):
                expected = t[name][..., ::step, ::step]
                squares = (f[..., ::own, ::own] - expected).square().mean()
                errors.append(squares / (0.8 * expected.square().mean() + 0.2))
            assert losses[name][0].item() == pytest.approx(torch.stack(errors).mean().item(), rel=1e-2)
            if name not in GRAM_LAYERS:
                assert losses[name][1] == 0
                continue
            (g, a), (gt, at) = (
                [gram_matrix(v)[0] for v in (s, t)]
                for s, t in ((found[0], found[1]), (theirs[0][name], theirs[1][name]))
            )
            size = at.norm() + 0.05 * len(at) ** 0.5
            relative = ((a - at).norm() + ((g - a) - (gt - at)).norm()) / 2 / size
            assert losses[name][1].item() == pytest.approx(relative.item(), rel=2e-2)


def test_total_weights_the_features_of_the_first_layer_with_hint():
    losses = {"conv1_1": (torch.tensor(1.0), torch.tensor(2.0)), "conv2_1": (torch.tensor(4.0), torch.tensor(8.0))}
    recipe = Recipe(weights={"conv1_1": 1.0, "conv2_1": 10.0}, gram=3.0, hint=0.25)
    assert total(losses, recipe).item() == pytest.approx((0.25 * 1 + 3 * 2) + 10 * (4 + 3 * 8))


def test_the_student_equals_its_network_in_the_engine(weights):
    """For a picture with an odd side."""
    student = Student(RECIPE.layers, RECIPE.widths, torch.Generator().manual_seed(0))
    network = student.network(RECIPE.layers, dict.fromkeys(RECIPE.layers, 1.0), torch.float32)
    canvas = torch.rand(1, 3, 37, 50)
    activations: dict[str, torch.Tensor] = {}
    network.visit(canvas, lambda name, x: activations.setdefault(name, x))
    for name, expected in student(canvas).items():
        assert network.architecture.stride(name) == student.stride(name)
        torch.testing.assert_close(activations[name], expected, rtol=1e-4, atol=1e-5)


def test_held_out_photos_are_not_used_for_training(photos):
    trained, held_out = list_photos(photos, 3)
    assert [len(trained), len(held_out)] == [6, 3]
    assert not set(trained) & set(held_out)


def test_crops_and_perturbed_crops_are_pictures_between_0_and_1():
    generator = torch.Generator().manual_seed(0)
    image = Image.fromarray(dead_leaves(np.random.default_rng(0), 80)).resize((120, 80))
    for _ in range(50):
        first, second = crop(image, 32, generator), crop(image, 32, generator)
        for picture in (first, perturbed(first, second, generator)):
            assert picture.shape == (3, 32, 32)
            assert picture.min() >= 0
            assert picture.max() <= 1


def test_the_pool_drops_the_oldest_pairs_and_keeps_pairs_together():
    pool = Pool(3)
    style = Entry.of(torch.zeros(3, 4, 4))
    for number in range(5):
        pool.add(Pair(Entry.of(torch.full((3, 4, 4), number / 10)), style))
    again = Pool(3)
    again.load(pool.state())
    drawn = again.draw(9, torch.Generator())
    assert sorted(round(10 * p.picture.picture[0, 0, 0].item()) for p in drawn) == [2, 3, 4]
    assert len({id(p.style) for p in drawn}) == 1


def test_an_evaluation_has_all_layers(weights, photos, monkeypatch):
    monkeypatch.setattr("gramophone_export.distill.evaluation.SIDE", 32)
    monkeypatch.setattr("gramophone_export.distill.evaluation.ITERATIONS", 2)
    paths = sorted(photos.iterdir())[:4]
    teacher = Teacher(weights, RECIPE.layers, [torch.rand(3, 32, 32)])
    student = Student(RECIPE.layers, RECIPE.widths, torch.Generator().manual_seed(0))
    evaluation = evaluate(student, teacher, paths)
    assert set(evaluation.photos) == set(evaluation.iterates) == set(evaluation.correlation) == set(STYLE_LAYERS)
    assert -1 <= evaluation.distance <= 1
    assert evaluation.table().count("\n") == 8


def test_crops_depend_on_the_seed(photos):
    drawn = Photos(sorted(photos.iterdir())[:3])
    crops = [drawn.crop(16, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(crops[0], crops[1])
    assert not torch.equal(crops[0], crops[2])


def test_gradient_loss_is_the_cosine_distance_of_the_gradients(weights):
    """Computes the gradients of the student and of the teacher from the formulas of their losses."""
    generator = torch.Generator().manual_seed(2)
    teacher = Teacher(weights, RECIPE.layers, [torch.rand(3, 32, 32, generator=generator)])
    student = Student(RECIPE.layers, RECIPE.widths, generator)
    first, second = (Entry.of(p) for p in torch.rand(2, 3, 32, 32, generator=generator))
    pair = Pair(first, second)
    canvas, style = (entry.picture.float()[None] for entry in (pair.picture, pair.style))

    def theirs(x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {n: gram_matrix(teacher.network(x)[n] / teacher.scales[n])[0] for n in STYLE_LAYERS}

    def ours(x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {n: student.maps[n] @ gram_matrix(student(x)[n])[0] @ student.maps[n].T for n in STYLE_LAYERS}

    gradients = []
    for matrices in (theirs, ours):
        x = canvas.clone().requires_grad_()
        sizes, targets = theirs(style), matrices(style)
        squares = [((matrices(x)[n] - targets[n]) ** 2).sum() / (sizes[n] ** 2).sum() for n in STYLE_LAYERS]
        loss = torch.stack(squares).sum()
        gradients.append(torch.autograd.grad(loss, x)[0].flatten())
    expected = 1 - torch.nn.functional.cosine_similarity(gradients[0], gradients[1], dim=0)
    found = gradient_loss(student, teacher, [pair])
    assert found.item() == pytest.approx(expected.item(), rel=0.02)
    found.backward()
    assert all(student.kernels[n].grad.abs().sum() > 0 for n in RECIPE.layers)
