"""Times style reconstruction by pystiche, with its own encoder, Gram loss, initial canvas and `image_optimization`.

This script runs in the interpreter of the peers' environment and shares the command line and the record with
neural_style_pt.py in the same folder. pystiche leaves the network's weights trainable, so every step also computes
their gradients; --freeze disables this.
"""

import importlib
import os
import tempfile
import warnings

import torch
from neural_style_pt import LAYERS, Recorder, parse_arguments
from PIL import Image


def import_pystiche() -> None:
    """Imports pystiche 1.0, which needs tables of download addresses that current versions of torchvision lack."""
    for name in ("alexnet", "vgg"):
        module = importlib.import_module(f"torchvision.models.{name}")
        if not hasattr(module, "model_urls"):
            # pystiche uses only the names of the models, unless it downloads weights.
            module.model_urls = {model: "" for model in module.__all__ if model.islower()}
    # At its import, pystiche creates a folder, by default in the user's cache.
    os.environ.setdefault("PYSTICHE_HOME", tempfile.gettempdir())
    importlib.import_module("pystiche")


def main() -> None:
    """Runs pystiche's image optimization, with the layer weights of Gatys et al."""
    arguments = parse_arguments("Style reconstruction by pystiche", ("lbfgs",), "--freeze")
    warnings.filterwarnings("ignore", module="torchvision")  # pystiche calls torchvision's old interface
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
