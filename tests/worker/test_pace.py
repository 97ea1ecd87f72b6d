"""The interval between two reports of a job."""

import pytest

from gramophone_server.worker.pace import report_interval


@pytest.mark.parametrize(("age", "seconds"), [(0, 0.5), (10, 0.5), (20, 1), (30, 1.5), (40, 2), (86_400, 2)])
def test_the_pause_grows_with_the_age_of_a_job_up_to_2_seconds(age, seconds):
    assert report_interval(age) == pytest.approx(seconds)
