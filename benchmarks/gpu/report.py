"""Findings of a stage: what passed, what failed, and the numbers."""

import contextlib
import json
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Kind = Literal["PASS", "FAIL", "NOTE"]


@dataclass(frozen=True)
class Finding:
    """One finding.

    Attributes:
        what: what was checked.
        numbers: the numbers behind it.
    """

    kind: Kind
    what: str
    numbers: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.kind} {self.what} {json.dumps(self.numbers, default=str) if self.numbers else ''}".rstrip()


@dataclass
class Report:
    """The findings of a stage, and the rows of its table."""

    findings: list[Finding] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def note(self, what: str, **numbers: Any) -> None:
        """Adds numbers that are neither good nor bad."""
        self._add(Finding("NOTE", what, numbers))

    def check(self, good: bool, what: str, **numbers: Any) -> None:
        """Adds a check that has passed if `good` is true."""
        self._add(Finding("PASS" if good else "FAIL", what, numbers))

    @contextlib.contextmanager
    def case(self, what: str) -> Iterator[None]:
        """Turns an exception inside the `with` block into a failed check, so that the stage continues."""
        try:
            yield
        except Exception as error:
            places = [f"{Path(f.filename).name}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)][-5:]
            message = (str(error) or type(error).__name__).splitlines()[0][:200]
            self._add(Finding("FAIL", what, {"error": f"{type(error).__name__}: {message}", "at": places}))

    def to_json(self) -> str:
        """Returns the report as JSON."""
        return json.dumps({"findings": [asdict(f) for f in self.findings], "rows": self.rows}, default=str)

    @classmethod
    def from_json(cls, text: str) -> "Report":
        """Returns the report of a JSON text."""
        values = json.loads(text)
        return cls([Finding(**finding) for finding in values["findings"]], values["rows"])

    def _add(self, finding: Finding) -> None:
        self.findings.append(finding)
        print(finding, flush=True)
