"""The order in which uploads and jobs are evicted to make room."""

from gramophone_server.storage.holdings import Evictable, Holdings

SIZES = {"a": 1, "b": 2, "c": 3, "d": 4, "big": 100}


def upload(owner: str, name: str) -> Evictable:
    return Evictable(owner, "upload", name, (name,))


def job(owner: str, key: str, *names: str) -> Evictable:
    return Evictable(owner, "job", key, names)


def evicted_keys(holdings: Holdings) -> list[str]:
    """The keys of the evicted uploads and jobs, in order."""
    return [item.key for item in holdings.evicted]


def test_a_file_counts_once_for_each_client_that_holds_it():
    holdings = Holdings(SIZES, [job("me", "1", "a", "b"), job("me", "2", "a", "c"), upload("you", "b")])
    assert holdings.total == 1 + 2 + 3
    assert holdings.held("me") == 6
    assert holdings.held("you") == 2
    assert holdings.held("nobody") == 0


def test_the_oldest_of_the_client_that_holds_most_is_evicted_first():
    items = [job("me", "1", "d"), upload("you", "a"), upload("you", "b"), upload("you", "c")]
    holdings = Holdings(SIZES, items)
    assert holdings.shrink(7)
    assert evicted_keys(holdings) == ["a", "b"]
    assert (holdings.total, holdings.held("you")) == (7, 3)


def test_the_larger_of_uploads_and_jobs_is_evicted_first():
    holdings = Holdings(SIZES, [job("me", "1", "a"), job("me", "2", "b"), upload("me", "c"), upload("me", "d")])
    assert holdings.shrink_client("me", 3)
    assert evicted_keys(holdings) == ["c", "d"]
    assert holdings.shrink_client("me", 0)
    assert evicted_keys(holdings) == ["c", "d", "1", "2"]


def test_a_file_shared_by_many_jobs_counts_once():
    items = [*(job("me", str(i), "d") for i in range(50)), upload("you", "a"), upload("you", "b"), upload("you", "c")]
    holdings = Holdings(SIZES, items)
    assert holdings.shrink(8)
    assert evicted_keys(holdings) == ["a", "b"]


def test_files_of_unfinished_jobs_are_not_evicted():
    holdings = Holdings(SIZES, [upload("me", "a")], [("me", "big"), ("you", "d")])
    assert not holdings.shrink(50)
    assert evicted_keys(holdings) == ["a"]
    assert not holdings.shrink_client("you", 3)
    assert holdings.shrink_client("you", 4)


def test_an_empty_store_fits_any_limit():
    assert Holdings({}, []).shrink(0)
