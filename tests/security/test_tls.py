"""TLS, client certificates, and when a server requires them."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from gramophone.v1 import job_pb2, job_service_pb2, model_service_pb2, options_pb2
from gramophone_server.security.tls import SecurityError, check_security, open_certificates
from gramophone_server.security.tokens import add_token
from gramophone_server.settings import SecuritySettings
from tests.certificates import Authority, Pair, private_pem
from tests.harness import Calls, ServerProcess, endless_request, events, style_request, wait_until

OURS = Authority()
# Another authority with the same name.
FOREIGN = Authority()
ALICE = OURS.issue("alice")


class Mutual:
    """A server that requires client certificates of our authority, and also accepts tokens."""

    def __init__(self, folder: Path) -> None:
        certificate, key = OURS.issue("server").write(folder, "server")
        (folder / "ca.pem").write_bytes(OURS.certificate)
        self.token = add_token(folder / "tokens.json", "bob", admin=False)
        tls = ["--tls-certificate", certificate, "--tls-key", key, "--client-ca", str(folder / "ca.pem")]
        tokens = ["--tokens", str(folder / "tokens.json"), "--admin", "root"]
        self.server = ServerProcess(*tls, *tokens, credentials=OURS.trust(ALICE))


@pytest.fixture(scope="module")
def mutual(tmp_path_factory) -> Iterator[Mutual]:
    made = Mutual(tmp_path_factory.mktemp("mutual"))
    with made.server:
        yield made


@pytest.fixture(scope="module")
def job_id(mutual) -> str:
    done = list(events(mutual.server.style.ReconstructStyle(style_request())))
    assert done[-1].state == job_pb2.JOB_STATE_SUCCEEDED
    return done[-1].job_id


def connection_error(
    address: str, credentials: grpc.ChannelCredentials | None, *options: tuple[str, object]
) -> grpc.RpcError:
    """Returns the error of a call over a new connection, which must fail."""
    with Calls(address, credentials, *options) as calls, pytest.raises(grpc.RpcError) as caught:
        calls.models.ListModels(model_service_pb2.ListModelsRequest(), timeout=20)
    return caught.value


def test_the_owner_of_a_job_is_the_common_name_of_the_certificate(mutual, job_id):
    assert mutual.server.jobs.GetJob(job_service_pb2.GetJobRequest(job_id=job_id)).job.owner == "alice"


@pytest.mark.parametrize(
    ("credentials", "options"),
    [
        (OURS.trust(), ()),
        (OURS.trust(FOREIGN.issue("alice")), ()),
        (OURS.trust(OURS.issue("alice", days=-1)), ()),
        (FOREIGN.trust(ALICE), ()),
        (OURS.trust(ALICE), (("grpc.ssl_target_name_override", "elsewhere.example"),)),
        (None, ()),
    ],
    ids=[
        "no certificate",
        "certificate of a foreign authority",
        "expired certificate",
        "server of a foreign authority",
        "server of another name",
        "plaintext",
    ],
)
def test_untrusted_connections_are_refused(mutual, credentials, options):
    error = connection_error(mutual.server.address, credentials, *options)
    assert error.code() == grpc.StatusCode.UNAVAILABLE
    assert "alice" not in error.details()


def test_an_expired_server_certificate_is_not_trusted(tmp_path):
    certificate, key = OURS.issue("server", days=-1).write(tmp_path, "server")
    with ServerProcess("--tls-certificate", certificate, "--tls-key", key) as server:
        assert connection_error(server.address, OURS.trust()).code() == grpc.StatusCode.UNAVAILABLE


def test_a_certificate_is_renewed_while_the_server_runs(tmp_path):
    certificate, key = FOREIGN.issue("server").write(tmp_path, "server")
    with ServerProcess("--tls-certificate", certificate, "--tls-key", key) as server:

        def reached(authority: Authority) -> bool:
            with Calls(server.address, authority.trust()) as calls:
                asked = calls.models.ListModels.future(model_service_pb2.ListModelsRequest(), timeout=20)
                return bool(asked.code() == grpc.StatusCode.OK)

        assert reached(FOREIGN)
        renewed = OURS.issue("server")
        Path(certificate).write_bytes(renewed.certificate)
        # The new certificate is not used before its key is in place.
        assert reached(FOREIGN)
        assert "is not the key of the certificate" in server.read_log()
        Path(key).write_bytes(renewed.key)
        assert reached(OURS)
        assert not reached(FOREIGN)


def test_tls_to_a_plaintext_server_fails(server):
    assert connection_error(server.address, OURS.trust()).code() == grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(("name", "sees"), [("bob", False), ("root", True)])
def test_jobs_of_another_client_are_visible_only_to_administrators(mutual, job_id, name, sees):
    with Calls(mutual.server.address, OURS.trust(OURS.issue(name))) as calls:
        listed = [job.id for job in calls.jobs.ListJobs(job_service_pb2.ListJobsRequest()).jobs]
        assert (job_id in listed) is sees
        request = job_service_pb2.GetJobRequest(job_id=job_id)
        if sees:
            assert calls.jobs.GetJob(request).job.owner == "alice"
        else:
            with pytest.raises(grpc.RpcError) as caught:
                calls.jobs.GetJob(request)
            assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_a_token_has_precedence_over_the_certificate(mutual, job_id):
    request = job_service_pb2.GetJobRequest(job_id=job_id)
    for token, code in ((mutual.token, "NOT_FOUND"), ("gramophone_wrong", "UNAUTHENTICATED")):
        with pytest.raises(grpc.RpcError) as caught:
            mutual.server.jobs.GetJob(request, metadata=(("authorization", f"Bearer {token}"),))
        assert caught.value.code().name == code


def test_without_a_common_name_the_owner_is_the_dns_name(mutual):
    with Calls(mutual.server.address, OURS.trust(OURS.issue(None, dns="painter.example"))) as calls:
        first = next(events(calls.style.ReconstructStyle(style_request())))
        job = calls.jobs.GetJob(job_service_pb2.GetJobRequest(job_id=first.job_id)).job
        assert job.owner == "painter.example"


@pytest.mark.parametrize("name", ["ali\nce", "ali\u202ece"])
def test_a_name_that_is_not_printable_is_refused(mutual, name):
    error = connection_error(mutual.server.address, OURS.trust(OURS.issue(name)))
    assert error.code() == grpc.StatusCode.UNAUTHENTICATED
    assert "needs a printable common name" in error.details()


@pytest.mark.slow
def test_closing_a_stream_cancels_its_job_on_a_server_with_tls(mutual):
    request = endless_request()
    request.submission.on_disconnect = options_pb2.ON_DISCONNECT_CANCEL
    stream = mutual.server.style.ReconstructStyle(request)
    job_id = next(events(stream)).job_id
    stream.cancel()

    def state() -> int:
        return mutual.server.jobs.GetJob(job_service_pb2.GetJobRequest(job_id=job_id)).job.state

    wait_until(lambda: state() == job_pb2.JOB_STATE_CANCELLED, "the job's end")
    assert "Traceback" not in mutual.server.read_log()


FILES: dict[str, Any] = {"tls_certificate": Path("c"), "tls_key": Path("k")}


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "::1", "[::1]"])
def test_loopback_addresses_need_no_tls_and_no_tokens(host):
    check_security(SecuritySettings(), host)
    check_security(SecuritySettings(tokens=Path("t")), host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "[::]", "", "192.0.2.1", "localhost.example", "example.org", "*"])
@pytest.mark.parametrize(
    ("security", "wanted"),
    [
        (SecuritySettings(), ["--tokens FILE or --client-ca FILE", "--tls-certificate FILE and --tls-key FILE"]),
        (SecuritySettings(tokens=Path("t")), ["--tls-certificate FILE and --tls-key FILE"]),
        (SecuritySettings(**FILES), ["--tokens FILE or --client-ca FILE"]),
    ],
)
def test_other_addresses_need_tls_and_tokens_or_insecure(host, security, wanted):
    with pytest.raises(SecurityError) as caught:
        check_security(security, host)
    options = re.findall(r"--\S+", "--tokens --client-ca --tls-certificate --tls-key")
    for option in options:
        assert (option in str(caught.value)) == any(option in phrase for phrase in wanted)
    assert "--insecure" in str(caught.value)
    check_security(replace(security, insecure=True), host)
    check_security(SecuritySettings(tokens=Path("t"), **FILES), host)
    check_security(SecuritySettings(client_ca=Path("a"), **FILES), host)


@pytest.mark.parametrize(
    ("security", "words"),
    [
        (SecuritySettings(tls_certificate=Path("c")), "--tls-certificate needs --tls-key"),
        (SecuritySettings(tls_key=Path("k")), "--tls-key needs --tls-certificate"),
        (SecuritySettings(client_ca=Path("a")), "--client-ca needs --tls-certificate and --tls-key"),
        (SecuritySettings(admins=("root",)), "--admin needs --tokens or --client-ca"),
    ],
)
def test_incomplete_security_settings_are_refused(security, words):
    with pytest.raises(SecurityError, match=words):
        check_security(security, "127.0.0.1")


def credentials(folder: Path, pair: Pair, authorities: bytes | None = None) -> grpc.ServerCredentials | None:
    certificate, key = (Path(path) for path in pair.write(folder, "server"))
    if authorities is not None:
        (folder / "ca.pem").write_bytes(authorities)
    settings = SecuritySettings(None, certificate, key, None if authorities is None else folder / "ca.pem")
    certificates = open_certificates(settings)
    return None if certificates is None else certificates.credentials()


def test_invalid_key_and_certificate_files_are_refused(tmp_path):
    assert open_certificates(SecuritySettings()) is None
    assert credentials(tmp_path, ALICE) is not None
    assert credentials(tmp_path, ALICE, OURS.certificate + FOREIGN.certificate) is not None
    locked = private_pem(ec.generate_private_key(ec.SECP256R1()), b"password")
    for pair, authorities, words in (
        (Pair(ALICE.certificate, FOREIGN.issue("alice").key), None, "is not the key of the certificate"),
        (Pair(b"hello", ALICE.key), None, "not a PEM certificate and its private key"),
        (Pair(ALICE.certificate, b""), None, "not a PEM certificate and its private key"),
        (Pair(ALICE.certificate, locked), None, "without a password"),
        (ALICE, b"hello", "ca.pem has no PEM certificates"),
        (ALICE, b"", "ca.pem has no PEM certificates"),
        (ALICE, b"\xff", "ca.pem has no PEM certificates"),
    ):
        with pytest.raises(SecurityError, match=words):
            credentials(tmp_path, pair, authorities)
    with pytest.raises(SecurityError, match=r"--tls-certificate .*nowhere\.pem cannot be read: No such file"):
        open_certificates(SecuritySettings(None, tmp_path / "nowhere.pem", tmp_path / "server-key.pem"))


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--host", "0.0.0.0"], "other machines can reach 0.0.0.0; add --tokens FILE"),
        (["--tls-certificate", "nowhere", "--tls-key", "nowhere"], "nowhere cannot be read"),
        (["--tokens", "nowhere"], "make it with: gramophone tokens add"),
    ],
)
def test_a_server_with_invalid_security_settings_exits_with_the_reason(args, words):
    command = [sys.executable, "-m", "gramophone_server", "--port", "0", *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_insecure_gives_a_warning():
    with ServerProcess("--host", "0.0.0.0", "--insecure") as server:
        assert "everyone who can reach" in server.read_log()


CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH


@pytest.mark.parametrize(
    ("usages", "authority", "reason"),
    [
        ((SERVER,), False, ""),
        ((ExtendedKeyUsageOID.CODE_SIGNING,), False, ""),
        ((), True, "is an authority's"),
        ((CLIENT,), True, "is an authority's"),
    ],
    ids=["server", "code signing", "authority", "authority for clients"],
)
def test_certificates_for_other_purposes_are_refused(mutual, usages, authority, reason):
    pair = OURS.issue("mallory", usages=usages, authority=authority)
    error = connection_error(mutual.server.address, OURS.trust(pair))
    if reason:
        assert error.code() == grpc.StatusCode.UNAUTHENTICATED
        assert reason in error.details()
    else:
        assert error.code() == grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("usages", [(CLIENT,), (CLIENT, SERVER)])
def test_certificates_for_clients_are_accepted(mutual, usages):
    with Calls(mutual.server.address, OURS.trust(OURS.issue("carol", usages=usages))) as calls:
        assert calls.models.ListModels(model_service_pb2.ListModelsRequest(), timeout=20).models


@pytest.mark.parametrize("usages", [(), (CLIENT, SERVER)])
def test_certificates_of_the_server_itself_are_refused_from_clients(tmp_path, usages):
    before, after = (OURS.issue(name, usages=usages) for name in ("first", "second"))
    certificate, key = before.write(tmp_path, "server")
    (tmp_path / "ca.pem").write_bytes(OURS.certificate)
    tls = ["--tls-certificate", certificate, "--tls-key", key, "--client-ca", str(tmp_path / "ca.pem")]
    with ServerProcess(*tls, credentials=OURS.trust(ALICE)) as server:
        for pair in (before, after):
            pair.write(tmp_path, "server")
            server.process.send_signal(signal.SIGHUP)
            wait_until(lambda: "models read again" in server.read_log(), "the reload")
            error = connection_error(server.address, OURS.trust(pair))
            assert error.code() == grpc.StatusCode.UNAUTHENTICATED
            assert "is the server's own" in error.details()
        # An earlier certificate of the server is still refused.
        assert "is the server's own" in connection_error(server.address, OURS.trust(before)).details()
        assert server.models.ListModels(model_service_pb2.ListModelsRequest(), timeout=20).models


def test_authorities_and_tokens_are_reloaded(tmp_path):
    certificate, key = OURS.issue("server").write(tmp_path, "server")
    authorities, tokens = tmp_path / "ca.pem", tmp_path / "tokens.json"
    authorities.write_bytes(OURS.certificate)
    token = add_token(tokens, "bob", admin=False)
    tls = ["--tls-certificate", certificate, "--tls-key", key, "--client-ca", str(authorities)]
    other = Authority("Another authority")
    newcomer = other.issue("newcomer")
    with ServerProcess(*tls, "--tokens", str(tokens), credentials=OURS.trust(ALICE)) as server:

        def reload() -> None:
            before = server.read_log().count("models read again")
            server.process.send_signal(signal.SIGHUP)
            wait_until(lambda: server.read_log().count("models read again") > before, "the reload")

        def code(pair: Pair, *metadata: tuple[str, str]) -> grpc.StatusCode:
            trust = grpc.ssl_channel_credentials(OURS.certificate, pair.key, pair.certificate)
            with Calls(server.address, trust) as calls:
                request = model_service_pb2.ListModelsRequest()
                return calls.models.ListModels.future(request, timeout=20, metadata=metadata).code()

        assert code(newcomer) == grpc.StatusCode.UNAVAILABLE
        authorities.write_bytes(OURS.certificate + other.certificate)
        reload()
        assert code(newcomer) == grpc.StatusCode.OK
        authorities.write_bytes(other.certificate)
        assert code(newcomer) == grpc.StatusCode.OK
        assert code(ALICE) == grpc.StatusCode.UNAVAILABLE
        # An unusable file (a pipe, a damaged file) is ignored, and the server does not block on it.
        for damage in (lambda: os.mkfifo(authorities), lambda: authorities.write_text("no certificate")):
            authorities.unlink()
            damage()
            reload()
            assert "new connections still use the previous certificates" in server.read_log()
            assert code(newcomer) == grpc.StatusCode.OK
        bearer = ("authorization", f"Bearer {token}")
        assert code(newcomer, bearer) == grpc.StatusCode.OK
        tokens.unlink()
        os.mkfifo(tokens)
        reload()
        assert code(newcomer, bearer) == grpc.StatusCode.UNAUTHENTICATED
        tokens.unlink()
        fresh = add_token(tokens, "bob", admin=False)
        assert code(newcomer, bearer) == grpc.StatusCode.UNAUTHENTICATED
        assert code(newcomer, ("authorization", f"Bearer {fresh}")) == grpc.StatusCode.OK
        assert "tokens reloaded: 1 clients" in server.read_log()
