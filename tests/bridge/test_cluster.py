"""Places for workers on the nodes of a cluster, and its address. tests/cluster tests real clusters."""

import socket

import pytest

pytest.importorskip("ray")

from gramophone_server.bridge.cluster import ClusterError, Place, check_port, choose_place

CPUS, GPUS = {"CPU": 8.0, "memory": 1e9}, {"CPU": 16.0, "GPU": 4.0}


def places(place: Place, *nodes: dict[str, float]) -> int:
    return sum(place.number_on(node) for node in nodes)


def test_auto_means_the_gpus_of_the_cluster_if_it_has_some():
    place = choose_place("auto", 0, [CPUS, GPUS])
    assert (place.device, place.gpus, places(place, CPUS, GPUS)) == ("cuda:0", 1, 4)
    place = choose_place("auto", 3, [CPUS, {}])
    assert (place.device, place.text, places(place, CPUS, {})) == ("cpu", "3 CPUs", 2)


def test_the_setting_decides_against_the_cluster():
    assert places(choose_place("cpu", 4, [CPUS, GPUS]), CPUS, GPUS) == 6
    assert places(choose_place("cuda", 0, [CPUS]), CPUS) == 0


def test_workers_on_cpus_need_a_number_of_threads():
    with pytest.raises(ClusterError, match=r"has no GPU; .* give --threads"):
        choose_place("auto", 0, [CPUS])


def test_an_address_where_nothing_listens_is_refused_at_once():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}"):
            with pytest.raises(ClusterError, match="refused"):
                check_port(address)
        taken.listen()
        check_port(f"127.0.0.1:{port}")
    # Ray itself finds this one.
    check_port("auto")
