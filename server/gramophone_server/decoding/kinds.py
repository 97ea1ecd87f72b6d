"""Identifies files by their first bytes, so that errors can name the type of a file that is not supported."""

import re
import struct

_BOX_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), "HEIC"),
    **dict.fromkeys((b"mif1", b"msf1", b"mif2"), "HEIF"),
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
}
_RAW = "a camera's raw file"
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\0\0\0\x0cJXL \r\n", "a JPEG XL picture"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\0\0\0\x0cjP  \r\n", "a JPEG 2000 picture"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (b"%PDF", "a PDF file"),
    (b"%!PS", "a PostScript file"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript file"),
    (b"8BPS", "a Photoshop file"),
    (b"gimp xcf", "a GIMP file"),
    (b"FUJIFILMCCD-RAW", _RAW),
    (b"IIRO", _RAW),
    (b"IIRS", _RAW),
    (b"IIU\0", _RAW),
    (b"FOVb", _RAW),
    (b"\0MRM", _RAW),
    (b"\x76\x2f\x31\x01", "an OpenEXR picture"),
    (b"#?RADIANCE", "a Radiance HDR picture"),
    (b"qoif", "a QOI picture"),
    (b"DDS ", "a DDS texture"),
    (b"\0\0\1\0", "an icon file"),
    (b"\x1aE\xdf\xa3", "a video"),
    (b"\0\0\1\xba", "a video"),
    (b"FLV\1", "a video"),
    (b"OggS", "an audio or video file"),
    (b"ID3", "an audio file"),
    (b"PK\3\4", "a ZIP archive or an office document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF", "an HDF5 file"),
)
_RIFF = {b"AVI ": "a video", b"WAVE": "an audio file"}
_SUPPORTED: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
)
_PNM = re.compile(rb"P[1-7]\s")
_SVG = re.compile(rb"\s*(?:<\?xml[^>]*>\s*|<!--.*?-->\s*|<!DOCTYPE svg[^>]*>\s*)*<svg", re.DOTALL)
_MARKUP = re.compile(rb"\s*<(?:!doctype html|html|head|body)", re.IGNORECASE)
_TEXT_BYTES = 4096
# TIFF tags: NewSubfileType (bit 0: reduced-resolution picture), SubIFDs, and DNGVersion.
_SUBFILE, _SUB_IFDS, _DNG = 254, 330, 50706


def kind_of(data: bytes) -> str:
    """Returns the type of an unsupported file with an article, such as "a video"; empty if unknown.

    Args:
        data: the first 4096 bytes of the file, or all.
    """
    if data[4:8] == b"ftyp":
        return _kind_of_boxes(data)
    if data[:4] == b"RIFF" and data[8:12] in _RIFF:
        return _RIFF[data[8:12]]
    for magic, kind in _MAGIC:
        if data.startswith(magic):
            return kind
    text = data[:_TEXT_BYTES].removeprefix(b"\xef\xbb\xbf")
    if _PNM.match(text):
        return "a PNM picture"
    if _SVG.match(text):
        return "an SVG drawing"
    if _MARKUP.match(text):
        return "a web page"
    return ""


def brand_of(data: bytes) -> str:
    """Returns "HEIC", "HEIF" or "AVIF" by the brands in the first box of a file; empty for other files."""
    if data[4:8] != b"ftyp" or len(data) < 16:
        return ""
    size = min(struct.unpack_from(">I", data)[0], len(data))
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, size - 3, 4))]
    found = [_BOX_BRANDS[brand] for brand in brands if brand in _BOX_BRANDS]
    # HEIF is the common container brand: prefer a more specific brand.
    return next((name for name in found if name != "HEIF"), found[0] if found else "")


def format_of(data: bytes) -> str:
    """Returns the supported format that a file's first bytes belong to, such as "PNG"; empty if there is none.

    Args:
        data: the first 4096 bytes of the file, or all.
    """
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    return next((name for magic, name in _SUPPORTED if data.startswith(magic)), brand_of(data))


def is_raw(tags: dict[int, object]) -> bool:
    """Returns whether a TIFF is a camera's raw file: its first directory then holds only a thumbnail.

    Args:
        tags: tags of the first directory.
    """
    subfile = tags.get(_SUBFILE, 0)
    return _DNG in tags or (isinstance(subfile, int) and bool(subfile & 1) and _SUB_IFDS in tags)


def _kind_of_boxes(data: bytes) -> str:
    if data[8:12] == b"crx ":
        return _RAW
    kinds = {"": "a video", "AVIF": "an AVIF picture"}
    return kinds.get(brand := brand_of(data), f"a {brand} picture")
