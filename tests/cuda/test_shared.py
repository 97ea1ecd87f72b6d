"""Jobs that share a GPU: their evaluations and the rest of their updates are recorded apart."""

from .conftest import run_script


def test_jobs_in_threads_of_their_own_record_their_updates(built):
    found = run_script(built, "shared")
    assert found["eager"]["updates"] == found["recorded"]["updates"] == [60] * 3
    assert not [line for line in found["told"] if "without a CUDA graph" in line]
    assert found["eager"]["graphs"] == 0
    # After the first updates, a graph for each, and one for each batch of evaluations.
    assert 0.7 < found["recorded"]["graphs"] < 2
    assert found["recorded"]["launches"] < found["eager"]["launches"] / 3
