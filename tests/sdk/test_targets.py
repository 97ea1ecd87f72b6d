"""Addresses of servers: each is accepted, or the error says what to write."""

import pytest

import gramophone
from gramophone import aio
from gramophone.targets import checked

GOOD = [
    "localhost:50051", "127.0.0.1:1", "gpu-box:65535", "gpu.example.com:443", "gpu_box:50051", "[::1]:50051",
    "[fe80::1%eth0]:50051", "0.0.0.0:50051", "dns:///gpu:50051", "dns://8.8.8.8/gpu:50051", "dns:gpu:50051",
    "ipv4:127.0.0.1:50051", "ipv4:127.0.0.1:50051,127.0.0.2:50051", "ipv6:[::1]:50051", "unix:/run/one.sock",
    "unix:///run/one.sock", "unix-abstract:one", "vsock:2:50051", "dns:50051",
]  # fmt: skip


@pytest.mark.parametrize("target", GOOD)
def test_valid_addresses_are_used_unchanged(target):
    assert checked(target) == checked(f" {target}\n") == target
    assert gramophone.Client(target).target == target


@pytest.mark.parametrize(
    ("target", "write"),
    [
        ("http://localhost:50051", "'localhost:50051'"),
        ("http://localhost:50051/", "'localhost:50051'"),
        ("http://localhost", "'localhost:50051'"),
        ("https://gpu.example.com", "'gpu.example.com:50051' with tls=True"),
        ("https://gpu.example.com:443/api/v1?x#y", "'gpu.example.com:443' with tls=True"),
        ("grpc://gpu:7000", "'gpu:7000'"),
        ("http://me:secret@gpu:7000", "'gpu:7000'"),
        ("http://[::1]:7000", "'[::1]:7000'"),
        ("localhost", "'localhost:50051'"),
        ("gpu.example.com", "'gpu.example.com:50051'"),
        ("192.168.0.7", "'192.168.0.7:50051'"),
        ("localhost:", "'localhost:50051'"),
        (":50051", "'localhost:50051'"),
        (":7000", "'localhost:7000'"),
        ("50051", "50051"),
        ("::1", "'[::1]:50051'"),
        ("[::1]", "'[::1]:50051'"),
        ("fe80::1:2", "'[fe80::1:2]:50051'"),
        ("::1:50051", "'[::1]:50051'"),
        ("localhost:50051/", "'localhost:50051'"),
        ("localhost:50051/v1", "'localhost:50051'"),
        ("local host:50051", "'localhost:50051'"),
        ("localhost: 50051", "'localhost:50051'"),
        ("localhost:0", "'localhost:50051'"),
        ("localhost:65536", "'localhost:50051'"),
        ("localhost:-1", "'localhost:50051'"),
        ("localhost:http", "'localhost:50051'"),
        ("localhost:٥٠٠٥١", "'localhost:50051'"),
        ("dns:///gpu", "'dns:///gpu:50051'"),
        ("ipv4:127.0.0.1", "'ipv4:127.0.0.1:50051'"),
        ("", "'localhost:50051'"),
        ("  ", "'localhost:50051'"),
        ("unix:", "localhost|50051"),
        (None, "'localhost:50051'"),
        (50051, "'localhost:50051'"),
        (b"localhost:50051", "'localhost:50051'"),
        (("localhost", 50051), "'localhost:50051'"),
    ],
)
@pytest.mark.parametrize("kind", [gramophone.Client, aio.Client])
def test_an_error_for_an_invalid_address_says_what_to_write(kind, target, write):
    with pytest.raises(ValueError, match=r"^target ") as caught:
        kind(target)
    assert any(each in str(caught.value) for each in write.split("|"))
    assert "secret'" not in str(caught.value).partition("write")[2]


def test_suggested_addresses_are_accepted():
    for target in ("http://x:1/", "::1", ":1", "x", "x y", "https://[::1]", "@", "/", ":", "a:b:c", "[", "é"):
        with pytest.raises(ValueError, match=r"^target ") as caught:
            checked(target)
        suggested = str(caught.value).partition("write '")[2].partition("'")[0]
        assert checked(suggested) == suggested


def test_a_server_is_reached_by_the_address_0_0_0_0_that_it_prints(server):
    port = server.address.rpartition(":")[2]
    for host in ("0.0.0.0", "localhost", "127.0.0.1"):
        with gramophone.Client(f"{host}:{port}") as client:
            assert client.models()
