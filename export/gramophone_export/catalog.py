"""The published models that Gramophone can create, and the preprocessing of their networks."""

from dataclasses import dataclass

from gramophone_server.models.manifest import Preprocessing

TORCHVISION = Preprocessing("RGB", 1.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CAFFE = Preprocessing("BGR", 255.0, (103.939, 116.779, 123.68), (1.0, 1.0, 1.0))
PREPROCESSING = {"torchvision": TORCHVISION, "caffe": CAFFE}


@dataclass(frozen=True)
class KnownModel:
    """A model whose weights are published.

    Attributes:
        name: name of the model.
        preprocessing: the preprocessing that the network was trained with.
        description: one sentence for users.
        source: origin of the weights.
        license: license of the weights.
        torchvision: name in torchvision's weights enum, which knows the download address; None if the weights are not
            torchvision's.
    """

    name: str
    preprocessing: Preprocessing
    description: str
    source: str
    license: str
    torchvision: str | None = None


CATALOG = {
    model.name: model
    for model in (
        KnownModel(
            "vgg19",
            TORCHVISION,
            "VGG-19 as torchvision trained it on ImageNet.",
            "torchvision VGG19_Weights.IMAGENET1K_V1",
            "BSD-3-Clause (torchvision)",
            "VGG19_Weights.IMAGENET1K_V1",
        ),
        KnownModel(
            "vgg19-caffe",
            CAFFE,
            "VGG-19 as Simonyan & Zisserman trained it in Caffe; the network of Gatys, Ecker & Bethge.",
            "Visual Geometry Group, University of Oxford, 2014; imported from a file",
            "CC BY 4.0, Visual Geometry Group, University of Oxford",
        ),
    )
}
