"""Transfers on a CPU, where nothing has to be copied."""

import torch

from gramophone_server.engine.transfer import download, download_beside, upload

CPU = torch.device("cpu")


def test_a_tensor_of_the_host_is_at_its_place():
    x = torch.arange(6.0)
    assert upload(x, CPU) is x
    assert download(x)() is x


def test_the_work_is_done_when_it_begins():
    """Later updates may change what it has read."""
    x = torch.arange(6.0)
    finished = download_beside(lambda values: values * 2, x)
    x.zero_()
    assert finished().tolist() == [0, 2, 4, 6, 8, 10]
