"""PNG files made from decoded pixels: decoding them gives the same pixels."""

import asyncio

import numpy as np
import pytest
from PIL import Image

from gramophone_server.decoding.decoders import Decoders
from gramophone_server.decoding.encoding import write_png
from gramophone_server.decoding.messages import Header, PictureError, PixelKind, PixelSpec

MODES: dict[PixelKind, tuple[str, int]] = {"rgb": ("RGB", 3), "rgba": ("RGBA", 4), "mask": ("L", 1)}


def noise(channels: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (40, 60, channels), dtype=np.uint8)


@pytest.mark.parametrize("kind", MODES)
def test_a_file_has_the_pixels(tmp_path, kind):
    mode, channels = MODES[kind]
    pixels = noise(channels)
    (tmp_path / "pixels").write_bytes(pixels.tobytes())
    name = write_png(tmp_path / "pixels", PixelSpec(60, 40, kind), tmp_path)
    with Image.open(tmp_path / name) as image:
        assert (image.format, image.mode) == ("PNG", mode)
        assert np.array_equal(np.asarray(image).reshape(pixels.shape), pixels)


@pytest.mark.parametrize("kind", MODES)
def test_a_decoder_process_encodes_what_it_decodes(tmp_path, kind):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    Image.fromarray(noise(4)).save(tmp_path / "source.png")
    spec = PixelSpec(30, 20, kind)

    async def twice() -> tuple[str, str]:
        decoders = Decoders(1 << 20)
        try:
            source = (await decoders.headers([tmp_path / "source.png"], "a"))[0]
            assert isinstance(source, Header)
            decoded = await decoders.decode(tmp_path / "source.png", source, spec, first, "a", durable=False)
            file = await decoders.encode(first / decoded.blob, spec, first, "a")
            header = (await decoders.headers([file], "a"))[0]
            assert not isinstance(header, PictureError)
            again = await decoders.decode(file, header, spec, second, "a", durable=False)
            return decoded.blob, again.blob
        finally:
            await decoders.close()

    before, after = asyncio.run(twice())
    assert before == after
