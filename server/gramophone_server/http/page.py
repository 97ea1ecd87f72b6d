"""The files of the web page, which the wheel contains ready to serve."""

import asyncio
import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

from .errors import CallError, Code
from .requests import Headers, Request, Send, respond

_FOLDER = Path(__file__).parent / "page"
_MISSING = b"The page is not built; build it with `make web`. The services work without it: see docs/http.md.\n"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
}
_COMPRESSED = frozenset({".css", ".html", ".js", ".json", ".map", ".svg", ".txt", ".webmanifest"})
_POLICY = "; ".join(
    (
        "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' blob: data:",
        "connect-src 'self'", "font-src 'self'", "manifest-src 'self'", "base-uri 'none'", "form-action 'none'",
        "frame-ancestors 'none'",
    )
)  # fmt: skip
# Names of files in this folder change with their content.
_HASHED = "/assets/"


@dataclass(frozen=True)
class _File:
    data: bytes
    compressed: bytes | None
    etag: str
    headers: Headers


class Page:
    """Serves the page at `/` and its files below; only files that were there at the last start or build.

    Args:
        folder: the folder with index.html.
    """

    def __init__(self, folder: Path = _FOLDER) -> None:
        self._folder = folder
        self._files: dict[str, _File] = {}
        self._version: object = None
        self._reading = asyncio.Lock()

    @property
    def exists(self) -> bool:
        """Whether the page is built."""
        return (self._folder / "index.html").is_file()

    async def answer(self, request: Request, send: Send) -> None:
        """Answers GET and HEAD requests.

        Raises:
            CallError: there is no such file, or the method is another one.
        """
        await self._refresh()
        file = self._files.get("/index.html" if request.path == "/" else request.path)
        if file is None:
            if request.path == "/":
                await respond(send, 404, _MISSING, [("content-type", "text/plain; charset=utf-8")])
                return
            raise CallError(Code.NOT_FOUND, f"there is nothing at {request.path[:200]!r}")
        if request.method not in ("GET", "HEAD"):
            raise CallError(Code.UNIMPLEMENTED, "use GET", status=405, headers=[("allow", "GET, HEAD")])
        if matches(request.header("if-none-match"), file.etag):
            await respond(send, 304, b"", file.headers)
            return
        if file.compressed is not None and _accepts_gzip(request):
            await respond(send, 200, file.compressed, [*file.headers, ("content-encoding", "gzip")])
            return
        await respond(send, 200, file.data, file.headers)

    async def _refresh(self) -> None:
        """Reads the files at the first request, and after a new build."""
        async with self._reading:
            version = await asyncio.to_thread(_version, self._folder)
            if version != self._version:
                self._files = await asyncio.to_thread(_read, self._folder)
                self._version = version


def matches(header: str | None, etag: str) -> bool:
    """Returns whether an If-None-Match header names an entity tag."""
    if header is None:
        return False
    return header.strip() == "*" or etag in [part.strip().removeprefix("W/") for part in header.split(",")]


def _version(folder: Path) -> object:
    try:
        found = (folder / "index.html").stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


def _read(folder: Path) -> dict[str, _File]:
    files = {}
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.startswith("."):
            name = "/" + path.relative_to(folder).as_posix()
            files[name] = _file(name, path.read_bytes())
    return files


def _file(name: str, data: bytes) -> _File:
    suffix = Path(name).suffix
    etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    compressed = gzip.compress(data, 9, mtime=0) if suffix in _COMPRESSED else None
    headers = [
        ("content-type", _TYPES.get(suffix, "application/octet-stream")),
        ("etag", etag),
        ("cache-control", "public, max-age=31536000, immutable" if name.startswith(_HASHED) else "no-cache"),
        ("content-security-policy", _POLICY),
        ("cross-origin-opener-policy", "same-origin"),
    ]
    if compressed is not None:
        headers.append(("vary", "Accept-Encoding"))
    return _File(data, compressed, etag, headers)


def _accepts_gzip(request: Request) -> bool:
    for part in (request.header("accept-encoding") or "").split(","):
        name, _, parameter = part.partition(";")
        if name.strip().lower() in ("gzip", "*"):
            return parameter.replace(" ", "").lower() not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
