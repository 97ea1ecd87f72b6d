"""Checks of a request's fields, collected so that a client learns of all its mistakes at once."""

from google.protobuf.message import Message


class InvalidRequestError(Exception):
    """The request breaks the contract; `violations` are pairs of field path and reason."""

    def __init__(self, violations: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{field}: {reason}" for field, reason in violations))
        self.violations = violations


class NotFoundError(InvalidRequestError):
    """The request names something that there is not: a `kind` of thing and its `name`, in `field`."""

    def __init__(self, field: str, kind: str, name: str, reason: str) -> None:
        super().__init__([(field, reason)])
        self.kind = kind
        self.name = name


class TooMuchError(Exception):
    """The server has as much of something under way as it lets be; `retry_after` is when to come again, in seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class BusyError(TooMuchError):
    """The server reads as many requests as it can."""


class MalformedRequestError(Exception):
    """What came is no request that can be read at all; the message is a sentence."""


class Checker:
    """Notes what is wrong with the fields of a request.

    Attributes:
        violations: what is wrong.
        pixels: of the pictures of this request so far.
    """

    def __init__(self) -> None:
        self.violations: list[tuple[str, str]] = []
        self.pixels = 0

    def add(self, field: str, reason: str) -> None:
        """Notes a violation, unless there are very many already."""
        if len(self.violations) < 100:
            self.violations.append((field, reason))

    def stop_if_wrong(self) -> None:
        """Raises InvalidRequestError if anything has been noted."""
        if self.violations:
            raise InvalidRequestError(self.violations)

    def text(self, message: Message, name: str) -> str:
        """A text that a database can be asked about."""
        value: str = getattr(message, name)
        if "\0" in value:
            self.add(name, "has a NUL character, which no name has")
            return ""
        return value
