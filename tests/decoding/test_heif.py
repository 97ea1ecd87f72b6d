"""HEIC and AVIF are read like other formats, with the same limits."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, ImageOps, features

from gramophone_server.decoding.boxes import MAX_BOXES, MAX_ITEMS
from gramophone_server.decoding.decoders import Decoders
from gramophone_server.decoding.messages import Header, PictureError, PixelSpec
from gramophone_server.decoding.pictures import decode
from tests.harness import encode

from .files import decoded, opened, salvaged
from .test_pictures import swap_red_and_green

PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)).resize((96, 64))
FORMATS = ["AVIF", "HEIF"]


@pytest.fixture(params=FORMATS, autouse=True)
def format(request) -> str:
    if request.param == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    elif not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    return request.param


def difference(data: bytes, image: Image.Image) -> float:
    """Returns the mean absolute difference between the decoded file and the image, in levels of 0 to 255."""
    made = np.asarray(decoded(data)).astype(int)
    assert made.shape[:2] == (image.height, image.width)
    return float(np.abs(made - np.asarray(image.convert("RGB"))).mean())


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_gray_color_and_transparent_pictures(format, mode):
    image = PHOTO.convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.linear_gradient("L").resize(PHOTO.size))
    expected = Image.new("RGBA", image.size, "white")
    expected.alpha_composite(image.convert("RGBA"))
    assert difference(encode(image, format, quality=95), expected) < 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_applied_once(format, orientation):
    """The encoder turns the EXIF orientation into irot and imir boxes; the EXIF data must not turn it again."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    image = PHOTO.copy()
    image.info["exif"] = exif.tobytes()
    turned = ImageOps.exif_transpose(image)
    data = encode(PHOTO, format, quality=95, exif=exif.tobytes())
    assert b"irot" in data or b"imir" in data or orientation == 1
    assert difference(data, turned) < 4


def test_a_color_profile_is_converted(format):
    profile = swap_red_and_green(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    plain = difference(encode(PHOTO, format, quality=95), PHOTO)
    swapped = decoded(encode(PHOTO, format, quality=95, icc_profile=profile))
    assert plain < 4
    expected = decoded(encode(PHOTO, "PNG", icc_profile=profile))
    assert np.abs(np.asarray(swapped).astype(int) - np.asarray(expected)).mean() < 8
    assert np.abs(np.asarray(swapped).astype(int) - np.asarray(PHOTO)).mean() > 15


def test_the_first_picture_of_several_is_read(format):
    others = [PHOTO.rotate(180), PHOTO.rotate(90)]
    data = encode(PHOTO, format, quality=95, save_all=True, append_images=others)
    assert difference(data, PHOTO) < 4


def test_a_picture_of_tiles_is_read_completely(format, monkeypatch):
    """Phones write such files."""
    if format == "AVIF":
        pytest.skip("Pillow writes no tiles")
    monkeypatch.setattr("pillow_heif.options.GRID_TILE_SIZE", 512, raising=False)
    image = PHOTO.resize((1300, 700), Image.Resampling.BICUBIC)
    data = encode(image, format, quality=80)
    if b"grid" not in data:
        pytest.skip("this pillow-heif writes no tiles")
    assert difference(data, image) < 4


def test_a_picture_above_the_pixel_limit_is_refused_by_its_header(format):
    with pytest.raises(PictureError, match=r"is 96x64, 6,144 pixels, .* at most 6,143"):
        salvaged(encode(PHOTO, format), max_pixels=6143)


@pytest.mark.parametrize("size", [(640, 480), (2048, 1536)])
async def test_the_memory_predicted_by_the_header_is_enough(format, size, tmp_path: Path):
    """The decoder process is limited to the predicted memory."""
    file = tmp_path / "picture"
    file.write_bytes(encode(PHOTO.resize(size), format, quality=60, **({"speed": 10} if format == "AVIF" else {})))
    decoders = Decoders(1 << 22)
    (header,) = await decoders.headers([file], "me")
    assert isinstance(header, Header), header
    assert (header.width, header.height) == size
    assert header.memory < 15 * header.pixels + (8 << 20)
    made = await decoders.decode(file, header, PixelSpec(96, 64), tmp_path, "me", durable=False)
    pixels = np.frombuffer((tmp_path / made.blob).read_bytes(), np.uint8).astype(int)
    assert np.abs(pixels - np.frombuffer(PHOTO.tobytes(), np.uint8)).mean() < 8
    await decoders.close()


def changed(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def test_a_file_with_too_many_items_or_boxes_is_refused(format):
    data = encode(PHOTO, format)
    items, locations = data.index(b"iinf") + 8, data.index(b"iloc") + 4
    count = locations + 6
    cases = [
        (changed(data, items, (MAX_ITEMS + 1).to_bytes(2, "big")), "items"),
        (changed(data, count, (MAX_ITEMS + 1).to_bytes(2, "big")), "items"),
        (data + b"\0\0\0\x08free" * (MAX_BOXES + 1), "boxes"),
        (changed(data, locations + 5 + 13, (1 << 24).to_bytes(4, "big")), "share bytes|damaged|decoded"),
    ]
    for made, reason in cases:
        with pytest.raises(PictureError, match=reason):
            salvaged(made)


def test_a_changed_byte_in_the_header_gives_a_picture_or_a_picture_error(format):
    data = encode(PHOTO, format)
    end = data.index(b"mdat")
    for at in range(end):
        made = changed(data, at, bytes([data[at] ^ 0xFF]))
        with contextlib.suppress(PictureError), opened(made) as file:
            assert decode(file, 1 << 20)[0].mode == "RGB"
