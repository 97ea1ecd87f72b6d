"""Damaged files: the server reads what browsers show, gives a warning, and fills missing parts with gray."""

import io

import numpy as np
import pytest
from PIL import Image

from gramophone_server.decoding import salvage
from gramophone_server.decoding.messages import PictureError
from tests.harness import encode

from .files import chunk, decoded, salvaged

GRAY = (128, 128, 128)
# A picture with much detail and without gray rows.
NOISE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
PHOTO = Image.fromarray(NOISE).resize((320, 240), Image.Resampling.BICUBIC)
# Decoded from top to bottom, so that the rows before the cut are exact. The other files are compared on average.
ROW_BY_ROW = [
    ("JPEG", "RGB", {}), ("JPEG", "L", {}), ("PNG", "RGB", {}), ("PNG", "L", {}), ("PNG", "RGBA", {}),
    ("WEBP", "RGB", {}), ("WEBP", "RGB", {"lossless": True}), ("WEBP", "RGBA", {"lossless": True}),
]  # fmt: skip
OTHERS = [
    ("JPEG", "RGB", {"progressive": True}), ("JPEG", "CMYK", {}), ("PNG", "P", {}), ("PNG", "I;16", {}),
    ("PNG", "1", {}), ("GIF", "P", {"interlace": 0}), ("GIF", "P", {}), ("GIF", "L", {}), ("BMP", "RGB", {}),
    ("BMP", "P", {}), ("WEBP", "RGB", {"save_all": True}),
]  # fmt: skip


def photo(format: str, mode: str, options: dict) -> bytes:
    image = PHOTO.convert("L").convert(mode) if mode in ("1", "I;16") else PHOTO.convert(mode)
    return encode(image, format, **options)


def cut(data: bytes, share: float) -> bytes:
    """Removes the last `share` of the file's bytes, at least two."""
    return data[: len(data) - max(2, round(len(data) * share))]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.7])
@pytest.mark.parametrize(("format", "mode", "options"), ROW_BY_ROW)
def test_rows_before_the_cut_are_read_and_the_rest_is_gray(format, mode, options, share):
    data = photo(format, mode, options)
    undamaged = np.asarray(decoded(data))
    image, warning = salvaged(cut(data, share))
    rows = np.asarray(image)
    missing = round(240 * int(warning.split("the last ")[1].split(" %")[0]) / 100)
    assert "is truncated" in warning and "replaced by gray" in warning
    # Headers and tables are at the beginning, so that the share of missing rows differs from the share of bytes.
    assert missing == pytest.approx(240 * share, abs=60)
    assert (rows[-missing + 3 :] == GRAY).all()
    # The last decoded block may be incomplete: do not compare the 22 rows above the missing ones.
    good = 240 - missing - 22
    assert np.array_equal(rows[:good], undamaged[:good])


@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.parametrize(("format", "mode", "options"), OTHERS)
def test_cut_files_of_other_formats_are_read(format, mode, options, share):
    data = photo(format, mode, options)
    undamaged = np.asarray(decoded(data)).astype(int)
    image, warning = salvaged(cut(data, share))
    assert "is truncated" in warning
    assert np.abs(np.asarray(image).astype(int) - undamaged).mean() < 150 * share


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_a_file_that_lacks_its_last_bytes_is_read_whole(format):
    data = photo(format, "RGB", {})
    # A PNG loses its last chunk, the others their last two bytes.
    image, warning = salvaged(data[: -12 if format == "PNG" else -2])
    assert np.array_equal(np.asarray(image), np.asarray(decoded(data)))
    assert "is truncated" in warning and "gray" not in warning


def test_the_exif_orientation_of_a_damaged_picture_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(PHOTO, "JPEG", exif=exif)
    image, warning = salvaged(cut(data, 0.5))
    assert image.size == (240, 320)
    assert warning
    # The missing bottom of the stored picture is at the left after the rotation.
    assert (np.asarray(image)[:, :40] == GRAY).all()


def test_the_first_frame_of_a_cut_animation_is_read():
    frames = [PHOTO, PHOTO.rotate(90), PHOTO.rotate(180)]
    for format in ("WEBP", "GIF", "PNG"):
        data = encode(frames[0], format, save_all=True, append_images=frames[1:], duration=100)
        image, _ = salvaged(cut(data, 0.4))
        assert np.array_equal(np.asarray(image), np.asarray(decoded(data)))


def test_the_first_picture_of_a_cut_mpo_file_is_read():
    data = encode(PHOTO, "MPO", save_all=True, append_images=[PHOTO.rotate(90)])
    image, _ = salvaged(cut(data, 0.3))
    assert np.array_equal(np.asarray(image), np.asarray(decoded(data)))


def with_chunk(data: bytes, made: bytes) -> bytes:
    at = data.index(b"IDAT") - 4
    return data[:at] + made + data[at:]


def test_a_wrong_checksum_of_metadata_gives_a_warning_only():
    data = encode(PHOTO)
    wrong = chunk(b"tEXt", b"key\0value")[:-1] + b"!"
    image, warning = salvaged(with_chunk(data, wrong))
    assert np.array_equal(np.asarray(image), np.asarray(decoded(data)))
    assert "is damaged (a wrong checksum)" in warning


def test_a_wrong_checksum_of_the_header_is_an_error():
    data = encode(PHOTO)
    with pytest.raises(PictureError, match="damaged PNG picture"):
        salvaged(data[:29] + bytes(4) + data[33:])


def test_broken_data_are_read_up_to_the_error():
    data = bytearray(encode(PHOTO))
    for at in range(len(data) // 2, len(data) // 2 + 40):
        data[at] ^= 0x5A
    image, warning = salvaged(bytes(data))
    assert "data stream" in warning
    assert np.array_equal(np.asarray(image)[:60], np.asarray(PHOTO)[:60])


def test_bytes_after_the_end_are_ignored():
    for format in ("JPEG", "PNG", "GIF", "WEBP", "BMP"):
        assert decoded(encode(PHOTO, format) + bytes(999)).size == PHOTO.size


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "BMP"])
def test_a_file_without_any_pixels_is_refused(format):
    data = encode(PHOTO, format)
    start = {"JPEG": data.find(b"\xff\xda") + 14, "PNG": 50, "GIF": 13 + 768 + 20, "WEBP": 40, "BMP": 54}[format]
    for size in (start, start // 2, 12, 3):
        with pytest.raises(PictureError, match=r"nothing of it can be read|damaged|not a picture|cannot be decoded"):
            salvaged(data[:size])


def test_a_cut_small_jpeg_is_read():
    """Only about one JPEG block of the picture is in the file."""
    data = encode(PHOTO.resize((48, 32)), "JPEG", quality=95)
    image, warning = salvaged(data[: data.index(b"\xff\xda") + 14 + 400])
    assert "replaced by gray" in warning
    assert np.abs(np.asarray(image)[:8, :8].astype(int) - np.asarray(decoded(data))[:8, :8]).max() < 30


@pytest.mark.parametrize("format", ["TIFF", "AVIF"])
def test_cut_files_that_browsers_do_not_show_are_refused(format):
    with pytest.raises(PictureError, match=r"damaged|cannot be decoded"):
        salvaged(cut(encode(PHOTO, format), 0.3))


def test_a_webp_with_a_huge_size_in_its_header_is_not_padded():
    data = bytearray(encode(PHOTO, "WEBP"))
    data[4:8] = data[16:20] = (1 << 31).to_bytes(4, "little")
    with pytest.raises(PictureError, match=r"damaged WebP|damaged header"):
        salvaged(bytes(data))


def test_pillow_rejects_truncated_files_again_after_salvaging():
    salvaged(cut(encode(PHOTO, "PNG"), 0.5))
    assert not salvage.ImageFile.LOAD_TRUNCATED_IMAGES  # type: ignore[attr-defined]
    with pytest.raises(OSError, match="truncated"):
        Image.open(io.BytesIO(cut(encode(PHOTO, "PNG"), 0.5))).load()
