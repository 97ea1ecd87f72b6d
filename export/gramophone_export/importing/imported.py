"""What an import reads from a file."""

from dataclasses import dataclass, field

from gramophone_server.models.graph import Parameters
from gramophone_server.models.layers import PoolingName
from gramophone_server.models.manifest import Preprocessing


@dataclass(frozen=True)
class Imported:
    """A network that was read from a file.

    Attributes:
        network: the network with its weights.
        layers: names of the layers that requests can use, in order.
        what: the kind of network, such as "VGG-16", to complete "… with weights imported from a file".
        pooling: the network's own pooling.
        scale, shift: what the network itself does first with each channel of its input: `scale · x + shift`.
        notes: what of the file is not used, as sentences.
    """

    network: Parameters
    layers: tuple[str, ...]
    what: str
    pooling: PoolingName = "max"
    scale: tuple[float, ...] = (1.0, 1.0, 1.0)
    shift: tuple[float, ...] = (0.0, 0.0, 0.0)
    notes: list[str] = field(default_factory=list)

    def folded(self, preprocessing: Preprocessing) -> Preprocessing:
        """Returns a preprocessing that includes the network's own `scale` and `shift`.

        From (x − mean) / std it is (x − mean + shift · std / scale) / (std / scale).
        """
        std = tuple(s / factor for s, factor in zip(preprocessing.std, self.scale, strict=True))
        mean = tuple(m - t * s for m, t, s in zip(preprocessing.mean, self.shift, std, strict=True))
        return Preprocessing(
            preprocessing.order, preprocessing.range, (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])
        )
