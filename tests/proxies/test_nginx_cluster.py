"""nginx in front of a cluster: clients know one address, and one of the servers dies."""

import os
import signal

import pytest

import gramophone
from tests.faults.clusters import front
from tests.faults.recovery import checkpoints
from tests.harness import png, wait_until
from tests.proxies.nginx import Nginx


@pytest.mark.slow
def test_a_client_behind_nginx_does_not_notice_that_a_server_is_killed(tmp_path, postgres):
    folder = tmp_path / "data"
    with front(folder, postgres.url) as other:
        one = front(folder, postgres.url)
        servers = "".join(f"server {server.address} max_fails=1 fail_timeout=5s; " for server in (one, other))
        http = f"upstream gramophone {{ {servers} }}"
        try:
            with (
                Nginx(tmp_path / "nginx", "gramophone", http=http) as nginx,
                gramophone.Client(nginx.address) as client,
            ):
                jobs = [client.style(png(seed=seed), size=32, iterations=250, seed=seed) for seed in range(4)]
                wait_until(lambda: len(checkpoints(folder)) >= 2, "checkpoints of two jobs")
                os.kill(one.process.pid, signal.SIGKILL)
                assert all(job.result().iterations == 250 for job in jobs)
                assert len(list(client.jobs())) == 4
        finally:
            one.process.kill()
            one.__exit__(None, None, None)
