"""Style reconstruction by pystiche: its encoder, Gram loss, start and `image_optimization`, timed.

A script for the interpreter of the peers' environment, with the command line and the record of neural_style_pt.py,
which lies beside it. pystiche leaves the network's weights trainable, so that every step also differentiates by them;
--freeze spares it that.
"""

import importlib
import os
import tempfile
import warnings

import torch
from neural_style_pt import LAYERS, Recorder, parse_arguments
from PIL import Image


def import_pystiche() -> None:
    """Make pystiche 1.0 importable: it reads tables of download addresses that torchvision no longer has."""
    for name in ("alexnet", "vgg"):
        module = importlib.import_module(f"torchvision.models.{name}")
        if not hasattr(module, "model_urls"):
            # Only the names are used unless pystiche is asked to download weights.
            module.model_urls = {model: "" for model in module.__all__ if model.islower()}
    # Imported, it makes a folder, in the user's cache unless told where.
    os.environ.setdefault("PYSTICHE_HOME", tempfile.gettempdir())
    importlib.import_module("pystiche")


def main() -> None:
    """Run pystiche's image optimization, with the layer weights of Gatys et al."""
    arguments = parse_arguments("Style reconstruction by pystiche", ("lbfgs",), "--freeze")
    warnings.filterwarnings("ignore", module="torchvision")  # it is called as older versions were
    import_pystiche()
    from pystiche import enc, image, loss, misc, optim

    network = enc.vgg19_multi_layer_encoder(pretrained=False, framework="caffe")
    network.load_state_dict(torch.load(arguments.weights, weights_only=True), framework="caffe")
    network.requires_grad_(not arguments.freeze)
    # Gatys: sum (G − A)² / (4 N² M²). pystiche: mean over N² of (G / M − A / M)². The layers' mean is its default.
    objective = loss.MultiLayerEncodingLoss(
        network,
        LAYERS[: arguments.layers],
        lambda encoder, weight: loss.GramLoss(encoder, score_weight=weight),
        score_weight=1 / 4,
    )
    with Image.open(arguments.picture) as picture:
        style = image.import_from_pil(picture.convert("RGB"))
    objective.set_target_image(style)
    torch.manual_seed(arguments.seed)
    canvas = misc.get_input_image("random", style_image=style)
    recorder = Recorder(arguments)

    def optimizer(canvas: torch.Tensor) -> torch.optim.Optimizer:
        watched = optim.default_image_optimizer(canvas)
        recorder.watch(watched, lambda: image.export_to_pil(canvas))
        return watched

    canvas = optim.image_optimization(canvas, objective, optimizer, num_steps=arguments.iterations, quiet=True)
    image.export_to_pil(canvas).save(arguments.picture_output)
    recorder.write("pystiche", frozen=arguments.freeze)


if __name__ == "__main__":
    main()
