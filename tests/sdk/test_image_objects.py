"""PIL images: the server decodes the same pixels from an image as from its file, or encode raises an error."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, ImageOps

from gramophone.images import encode
from tests.decoding.files import chunk, decoded
from tests.harness import encode as saved

RNG = np.random.default_rng(0)
LEVELS = np.asarray(Image.fromarray(RNG.integers(0, 256, (4, 5, 3), np.uint8)).resize((23, 17)))
PHOTO = Image.fromarray(LEVELS)
GRAY16 = LEVELS[..., 0].astype(np.uint16) * 256 + LEVELS[..., 1]
ALPHA = Image.fromarray(LEVELS[..., 1])


def with_alpha(mode: str) -> Image.Image:
    image = PHOTO.convert(mode)
    image.putalpha(ALPHA)
    return image


def palette_with(transparency: int | bytes) -> Image.Image:
    image = PHOTO.quantize(16)
    image.info["transparency"] = transparency
    return image


def wide(mode: str) -> Image.Image:
    """Returns 16-bit gray pixels, little-endian except for I;16B."""
    return Image.frombytes(mode, PHOTO.size, GRAY16.astype(">u2" if mode == "I;16B" else "<u2").tobytes())


def with_transparent_color(mode: str) -> Image.Image:
    """Returns an image with one transparent color."""
    image = Image.new(mode, PHOTO.size, "white")
    image.paste(PHOTO.convert(mode).resize((9, 9)), (3, 3))
    image.info["transparency"] = image.getpixel((5, 5))
    return image


MODES: dict[str, tuple[Callable[[], Image.Image], str]] = {
    "1": (lambda: PHOTO.convert("1"), "PNG"),
    "L": (lambda: PHOTO.convert("L"), "PNG"),
    "L with a transparent gray": (lambda: with_transparent_color("L"), "PNG"),
    "LA": (lambda: with_alpha("LA"), "PNG"),
    "P": (lambda: PHOTO.quantize(16), "PNG"),
    "P with a transparent color": (lambda: palette_with(3), "PNG"),
    "P with an alpha for each color": (lambda: palette_with(bytes(range(0, 256, 16))), "PNG"),
    "P of RGBA": (lambda: with_alpha("RGBA").quantize(16, method=Image.Quantize.FASTOCTREE), "PNG"),
    "PA": (lambda: with_alpha("LA").convert("PA"), "TIFF"),
    "RGB": (lambda: PHOTO.copy(), "PNG"),
    "RGB with a transparent color": (lambda: with_transparent_color("RGB"), "PNG"),
    "RGBA": (lambda: with_alpha("RGBA"), "PNG"),
    "RGBX": (lambda: PHOTO.convert("RGBX"), "TIFF"),
    "CMYK": (lambda: PHOTO.convert("CMYK"), "TIFF"),
    "LAB": (lambda: PHOTO.convert("LAB"), "TIFF"),
    "I": (lambda: Image.fromarray(GRAY16.astype(np.int32)), "TIFF"),
    "I;16": (lambda: wide("I;16"), "PNG"),
    "I;16B": (lambda: wide("I;16B"), "TIFF"),
    "I;16L": (lambda: wide("I;16L"), "TIFF"),
}
# Modes that no file format holds, each with the image that Pillow converts it to.
UNSAVED: dict[str, tuple[Callable[[], Image.Image], Image.Image]] = {
    "YCbCr": (lambda: PHOTO.convert("YCbCr"), PHOTO.convert("YCbCr").convert("RGB")),
    "HSV": (lambda: PHOTO.convert("HSV"), PHOTO.convert("HSV").convert("RGB")),
    "RGBa": (lambda: with_alpha("RGBA").convert("RGBa"), with_alpha("RGBA").convert("RGBa").convert("RGBA")),
    "La": (lambda: with_alpha("LA").convert("La"), with_alpha("LA").convert("La").convert("LA")),
    "I;16N": (lambda: wide("I;16N"), wide("I;16")),
}


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(decoded(data)).astype(int)


def check_same(image: Image.Image, expected: np.ndarray) -> None:
    made = pixels(encode(image))
    assert made.shape == expected.shape
    assert np.abs(made - expected).max() <= 1


def test_every_mode_of_pillow_is_tested():
    names = {name.split()[0] for name in (*MODES, *UNSAVED)}
    assert set(Image.MODES) == names | {"F"}


@pytest.mark.parametrize("name", MODES)
def test_an_image_has_the_same_pixels_as_its_file(name):
    make, format = MODES[name]
    image = make()
    assert image.mode == name.split()[0]
    file = saved(image, format)
    expected = pixels(file)
    assert np.ptp(expected) > 90
    check_same(image, expected)
    for load in (False, True):
        opened = Image.open(io.BytesIO(file))
        if load:
            opened.load()
        check_same(opened, expected)


@pytest.mark.parametrize("name", UNSAVED)
def test_an_image_of_a_mode_without_a_file_format_is_converted(name):
    make, image = UNSAVED[name]
    assert make().mode == name
    expected = pixels(saved(image))
    assert np.ptp(expected) > 90
    check_same(make(), expected)


def test_16_bit_images_keep_their_depth():
    for image in (wide("I;16"), wide("I;16B"), Image.fromarray(GRAY16.astype(np.int32)), GRAY16, GRAY16.astype(">u2")):
        sent = Image.open(io.BytesIO(encode(image)))
        assert np.array_equal(np.asarray(sent), GRAY16)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (Image.new("F", (4, 4), 0.5), r"mode F, .*convert\('L'\).* numpy.asarray"),
        (Image.new("F", (4, 4), 300.0), "mode F"),
        (Image.new("I", (4, 4), 65536), "levels of 65536 to 65536"),
        (Image.new("I", (4, 4), -1), "levels of -1"),
        (PHOTO.convert("L").convert("I"), "which is black"),
        (PHOTO.convert("L").convert("I;16"), "which is black"),
        (Image.new("RGB", (0, 4)), "no pixels"),
    ],
    ids=["F", "F of levels", "I too large", "I negative", "I of 8 bits", "I;16 of 8 bits", "empty"],
)
def test_images_without_a_defined_range_or_pixels_are_refused(image, reason):
    with pytest.raises(ValueError, match=reason):
        encode(image)


def turned_file(orientation: int, format: str, *, xmp: bool = False) -> bytes:
    """Returns a picture file with an orientation in its EXIF or XMP data."""
    if xmp:
        packet = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="{orientation}"/></x:xmpmeta>'
        if format == "PNG":
            data = saved(PHOTO)
            at = data.index(b"IDAT") - 4
            return data[:at] + chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet.encode()) + data[at:]
        return saved(PHOTO, format, xmp=packet.encode())
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return saved(PHOTO, format, exif=exif)


# (format, whether the orientation is in XMP). Pillow reads an orientation from XMP in JPEG, PNG and WebP.
TURNED = [(f, False) for f in ("JPEG", "PNG", "WEBP", "TIFF", "MPO")] + [("JPEG", True), ("PNG", True), ("WEBP", True)]


@pytest.mark.parametrize(("format", "xmp"), TURNED)
@pytest.mark.parametrize("orientation", [2, 3, 6, 8])
def test_an_image_is_turned_exactly_once(format, xmp, orientation):
    """It is turned if it still has the tag, and not if Pillow has turned it and removed the tag."""
    data = turned_file(orientation, format, xmp=xmp)
    expected = pixels(data)
    assert expected.shape[:2] == ((23, 17) if orientation > 4 else (17, 23))

    def opened() -> Image.Image:
        return Image.open(io.BytesIO(data))

    loaded, turned = opened(), opened()
    loaded.load()
    ImageOps.exif_transpose(turned, in_place=True)
    images = [opened(), loaded, turned, opened().convert("RGB"), opened().copy(), ImageOps.exif_transpose(opened())]
    for image in images:
        check_same(image, expected)


def test_an_orientation_that_is_changed_after_opening_counts():
    image = Image.open(io.BytesIO(turned_file(6, "JPEG")))
    image.getexif()[ExifTags.Base.Orientation] = 1
    assert decoded(encode(image)).size == (23, 17)
    image = Image.open(io.BytesIO(turned_file(6, "JPEG")))
    del image.info["exif"]
    image.getexif().clear()
    assert decoded(encode(image)).size == (23, 17)


def test_exif_data_after_the_pixels_of_a_png_counts():
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    data = saved(PHOTO)
    end = data.index(b"IEND") - 4
    data = data[:end] + chunk(b"eXIf", exif.tobytes()[6:]) + data[end:]
    image = Image.open(io.BytesIO(data))
    image.load()
    check_same(image, pixels(data))


def other_profile() -> bytes:
    """Returns an RGB color profile that differs from sRGB: red and green are swapped."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = data.index(b"rXYZ"), data.index(b"gXYZ")
    data[red : red + 4], data[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(data)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "YCbCr", "HSV"])
def test_a_color_profile_is_sent_with_the_image(mode):
    image = with_alpha("RGBA") if mode == "RGBA" else PHOTO.quantize(16) if mode == "P" else PHOTO.convert(mode)
    plain = pixels(encode(image))
    image.info["icc_profile"] = other_profile()
    in_file = image if mode in ("RGB", "RGBA", "P") else image.convert("RGB")
    expected = pixels(saved(in_file, icc_profile=other_profile()))
    assert np.abs(expected - plain).max() > 20
    check_same(image, expected)


def animation(format: str) -> bytes:
    frames = [Image.new("RGB", (23, 17), color) for color in ("red", "lime", "blue")]
    return saved(frames[0], format, save_all=True, append_images=frames[1:])


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF", "MPO"])
def test_the_current_frame_is_sent(format):
    data = animation(format)
    image = Image.open(io.BytesIO(data))
    check_same(image, pixels(data))
    image.seek(1)
    assert pixels(encode(image)).mean((0, 1)) == pytest.approx((0, 255, 0), abs=3)
    image.seek(0)
    check_same(image, pixels(data))


def test_an_unchanged_image_is_sent_as_its_file(tmp_path):
    data = saved(PHOTO, "JPEG", quality=80)
    (tmp_path / "photo.jpg").write_bytes(data)
    for image in (Image.open(tmp_path / "photo.jpg"), Image.open(io.BytesIO(data))):
        assert encode(image) == data
        assert image.getpixel((0, 0)) == Image.open(io.BytesIO(data)).getpixel((0, 0))


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.putpixel((0, 0), (1, 2, 3)),
        lambda image: image.draft("L", (6, 6)),
        lambda image: image.info.update(icc_profile=other_profile()),
        lambda image: image.thumbnail((9, 9)),
    ],
    ids=["pixels", "draft", "profile", "thumbnail"],
)
def test_a_changed_image_is_not_sent_as_its_file(change):
    data = saved(PHOTO, "JPEG", quality=95)
    image = Image.open(io.BytesIO(data))
    change(image)
    assert encode(image) != data


def test_an_image_of_a_format_that_no_server_reads_is_converted():
    image = Image.open(io.BytesIO(saved(PHOTO, "PPM")))
    assert np.array_equal(pixels(encode(image)), LEVELS)


def test_an_image_whose_file_is_closed_is_refused(tmp_path: Path):
    PHOTO.save(tmp_path / "photo.png")
    with Image.open(tmp_path / "photo.png") as image:
        pass
    with pytest.raises(ValueError, match=r"cannot be loaded .* give the file's path"):
        encode(image)


def test_a_truncated_image_is_sent_as_its_file_if_the_server_reads_the_format():
    """The server decides how much of a truncated file can be decoded."""
    data = saved(PHOTO, "PPM")
    with pytest.raises(ValueError, match=r"cannot be loaded .*truncated"):
        encode(Image.open(io.BytesIO(data[:-200])))
    data = saved(PHOTO, "JPEG")[:-20]
    assert encode(Image.open(io.BytesIO(data))) == data
