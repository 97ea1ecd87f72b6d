"""Files of unsupported kinds: the error names the kind of the file and the supported formats."""

import io
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import tifffile

from gramophone_server.decoding import heif, kinds
from gramophone_server.decoding.messages import PictureError
from tests.harness import encode

from .files import salvaged
from .test_pictures import flat


def boxes(brand: bytes, *others: bytes) -> bytes:
    """The beginning of an ISO base media file with these brands."""
    content = brand + bytes(4) + b"".join(others)
    return struct.pack(">I", 8 + len(content)) + b"ftyp" + content + struct.pack(">I4s", 508, b"mdat") + bytes(500)


FILES = {
    "JPEG XL": (b"\xff\x0a" + bytes(100), "is a JPEG XL picture"),
    "JPEG XL in boxes": (b"\0\0\0\x0cJXL \r\n\x87\n" + boxes(b"jxl "), "is a JPEG XL picture"),
    "JPEG 2000": (encode(flat(), "JPEG2000"), "is a JPEG 2000 picture"),
    "JPEG 2000 without boxes": (encode(flat(), "JPEG2000", no_jp2=True), "is a JPEG 2000 picture"),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "is an SVG drawing"),
    "SVG with a prolog": (b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- made -->\n<svg/>', "is an SVG drawing"),
    "web page": (b"<!DOCTYPE html><html><title>404</title></html>", "is a web page"),
    "PDF": (b"%PDF-1.7\n" + bytes(100), "is a PDF file"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is a PostScript file"),
    "Photoshop": (b"8BPS\0\1" + bytes(100), "is a Photoshop file"),
    "icon": (encode(flat(), "ICO"), "is an icon file"),
    "PNM": (encode(flat(), "PPM"), "is a PNM picture"),
    "MP4": (boxes(b"isom", b"mp41"), "is a video"),
    "QuickTime": (boxes(b"qt  "), "is a video"),
    "Matroska": (b"\x1aE\xdf\xa3" + bytes(100), "is a video"),
    "AVI": (b"RIFF\0\1\0\0AVI LIST" + bytes(100), "is a video"),
    "Canon CR3": (boxes(b"crx ", b"isom"), "is a camera's raw file"),
    "Fuji RAF": (b"FUJIFILMCCD-RAW 0201" + bytes(100), "is a camera's raw file"),
    "ZIP": (b"PK\3\4" + bytes(100), "is a ZIP archive"),
    "damaged HEIC": (boxes(b"heic", b"mif1", b"heic"), "is a (damaged )?HEIC picture"),
    "damaged HEIC of HEVC frames": (boxes(b"hevc", b"msf1"), "is a (damaged )?HEIC picture"),
    "damaged HEIF": (boxes(b"mif1", b"heix"), "is a (damaged )?HEIC picture"),
    "damaged AVIF": (boxes(b"avif", b"mif1"), "is (a damaged|an) AVIF picture"),
    "damaged JPEG": (b"\xff\xd8\xff\xe0" + bytes(100), "is a damaged JPEG picture"),
    "damaged TIFF": (encode(flat(), "TIFF", compression="tiff_lzw")[:100], "is a damaged TIFF picture"),
    "text": (b"hello", "is not a picture this server reads; it reads PNG, JPEG, WebP, TIFF, BMP, GIF"),
}


@pytest.mark.parametrize("name", FILES)
def test_the_error_names_the_kind_of_an_unsupported_file(name):
    data, reason = FILES[name]
    with pytest.raises(PictureError, match=f"^{reason}") as caught:
        salvaged(data)
    if "damaged" not in name:
        assert "it reads PNG, JPEG" in str(caught.value)


def raw(*, within: bool = False, tags: Sequence[Any] = ()) -> bytes:
    """A TIFF whose first directory has a thumbnail; with `within`, a sub-directory has the picture, as in raw files."""
    buffer = io.BytesIO()
    thumbnail, picture = np.full((16, 24, 3), 99, np.uint8), np.full((160, 240), 99, np.uint16)
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(thumbnail, photometric="rgb", subfiletype=1, subifds=int(within), extratags=tags)
        if within:
            writer.write(picture, photometric="minisblack")
    return buffer.getvalue()


def test_a_raw_file_is_refused_although_it_has_a_thumbnail():
    with pytest.raises(PictureError, match="a camera's raw file"):
        salvaged(raw(within=True))
    with pytest.raises(PictureError, match="a camera's raw file"):
        salvaged(raw(tags=[(50706, "B", 4, (1, 4, 0, 0), True)]))
    assert salvaged(raw())[0].size == (24, 16)


@pytest.mark.parametrize(
    ("data", "brand"),
    [
        (boxes(b"mif1", b"heic"), "HEIC"),
        (boxes(b"mif1", b"avif"), "AVIF"),
        (boxes(b"mif1"), "HEIF"),
        (boxes(b"isom"), ""),
        (b"\0\0\0\x18ftyp", ""),
        (b"", ""),
    ],
)
def test_brand_of_iso_media_files(data, brand):
    assert kinds.brand_of(data) == brand


def test_the_error_says_how_to_get_heic_and_avif_support(monkeypatch):
    monkeypatch.setattr(heif, "has_heic", lambda: False)
    monkeypatch.setattr(heif, "has_avif", lambda: False)
    with pytest.raises(PictureError, match=r"is a HEIC picture, .* install gramophone\[heic\] on the server, or"):
        salvaged(boxes(b"heic", b"mif1"))
    with pytest.raises(PictureError, match=r"is an AVIF picture, .* Pillow 11.3"):
        salvaged(boxes(b"avif", b"mif1"))
