"""The memory that the jobs of a device have planned to use."""


class Room:
    """Admits the jobs of a device to its memory, in the order in which they first ask.

    Attributes:
        planned: bytes that each admitted job needs, by the job's id.
    """

    def __init__(self) -> None:
        self.planned: dict[str, int] = {}
        self._waiting: list[str] = []

    def fits(self, needed: int, available: int) -> bool:
        """Returns whether a further job's memory is there beside that of the admitted jobs.

        Args:
            needed: bytes that the job needs.
            available: bytes that there are for all jobs together.
        """
        return sum(self.planned.values()) + needed <= available

    def enter(self, job_id: str, needed: int, available: int) -> bool:
        """Returns whether a job may use its memory now: it fits, or no other job is there. Else it must ask again."""
        if job_id in self.planned:
            return True  # It asked again before it got the answer.
        if job_id not in self._waiting:
            self._waiting.append(job_id)
        if self._waiting[0] != job_id or (self.planned and not self.fits(needed, available)):
            return False
        del self._waiting[0]
        self.planned[job_id] = needed
        return True

    def leave(self, job_id: str) -> None:
        """Frees a job's memory, or forgets that it waits."""
        self.planned.pop(job_id, None)
        if job_id in self._waiting:
            self._waiting.remove(job_id)
