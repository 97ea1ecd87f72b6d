"""How often a job reports."""

import pytest

from gramophone_server.worker.pace import pause


@pytest.mark.parametrize(("age", "seconds"), [(0, 0.5), (10, 0.5), (20, 1), (30, 1.5), (40, 2), (86_400, 2)])
def test_reports_grow_rarer_with_a_jobs_age_but_never_rare(age, seconds):
    assert pause(age) == pytest.approx(seconds)
