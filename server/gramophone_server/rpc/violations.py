"""Collects the violations of a request's fields, so that one error reports all of them."""

from google.protobuf.message import Message


class InvalidRequestError(Exception):
    """The request breaks the contract; `violations` is a list of (field path, reason)."""

    def __init__(self, violations: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{field}: {reason}" for field, reason in violations))
        self.violations = violations


class NotFoundError(InvalidRequestError):
    """The request names a resource that does not exist: its `kind` (such as "job") and `name`, given in `field`."""

    def __init__(self, field: str, kind: str, name: str, reason: str) -> None:
        super().__init__([(field, reason)])
        self.kind = kind
        self.name = name


class ConflictError(InvalidRequestError):
    """A field does not fit what the server has now; the client must ask for that and try again."""


class LimitReachedError(Exception):
    """The server has reached a limit, such as the maximum of open streams; retry after `retry_after` seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class BusyError(LimitReachedError):
    """The server already reads the maximum of requests or uploads at once."""


class MalformedRequestError(Exception):
    """The request cannot be parsed; the message is a sentence."""


class Checker:
    """Collects the violations of one request.

    Attributes:
        violations: (field path, reason) of each.
        pixels: number of pixels of this request's pictures so far.
    """

    def __init__(self) -> None:
        self.violations: list[tuple[str, str]] = []
        self.pixels = 0

    def add(self, field: str, reason: str) -> None:
        """Adds a violation; ignores it after the first 100."""
        if len(self.violations) < 100:
            self.violations.append((field, reason))

    def stop_if_wrong(self) -> None:
        """Raises InvalidRequestError if there are violations."""
        if self.violations:
            raise InvalidRequestError(self.violations)

    def text(self, message: Message, name: str) -> str:
        """Returns a text field, checked to have no NUL character, which databases reject."""
        value: str = getattr(message, name)
        if "\0" in value:
            self.add(name, "has a NUL character, which is not allowed")
            return ""
        return value
