"""Settings of `gramophone serve` from flags, variables and a file: their precedence, and errors for invalid ones."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gramophone_server.cli.serve import serve, serve_command
from gramophone_server.settings import Settings, build, entries


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of the test, without GRAMOPHONE_* variables of the user who runs the tests."""
    monkeypatch.chdir(tmp_path)
    for entry in entries(Settings):
        monkeypatch.delenv(str(entry.variable), raising=False)
    return tmp_path


def run(*args: str, **environment: str) -> Result:
    return CliRunner(env=environment).invoke(serve, ["--port", "0", *args])


def parsed(*args: str) -> Settings:
    """The settings with which the command would start a server."""
    return build(Settings, serve_command(Settings).make_context("serve", list(args)).params)


# (setting, flags, variable, line of the file, values by flag, by variable, by file and by default)
PRECEDENCE = [
    ("limits.max_queued", ["--max-queued", "1"], "GRAMOPHONE_MAX_QUEUED=2", "max_queued = 3", (1, 2, 3, 64)),
    (
        "connection.idle_timeout",
        ["--idle-timeout", "1"],
        "GRAMOPHONE_IDLE_TIMEOUT=2",
        "idle_timeout = 3",
        (1, 2, 3, 20),
    ),
    (
        "storage.keep",
        ["--keep", "1MB"],
        "GRAMOPHONE_KEEP_BYTES=2MB",
        'keep = "3MB"',
        (10**6, 2 * 10**6, 3 * 10**6, 20 << 30),
    ),
    (
        "storage.keep",
        ["--keep", "1MB"],
        "GRAMOPHONE_KEEP_BYTES=2000000",
        "keep = 3000000",
        (10**6, 2 * 10**6, 3 * 10**6, 20 << 30),
    ),
    (
        "workers.memory",
        ["--memory", "none"],
        "GRAMOPHONE_MEMORY=2GB",
        'memory = "3GB"',
        (None, 2 * 10**9, 3 * 10**9, None),
    ),
    (
        "observability.metrics_port",
        ["--metrics-port", "1"],
        "GRAMOPHONE_METRICS_PORT=none",
        "metrics_port = 3",
        (1, None, 3, None),
    ),
    (
        "workers.devices",
        ["--device", "cuda:1"],
        "GRAMOPHONE_DEVICE=cpu, cuda:2",
        'devices = ["cuda:3", "cpu"]',
        (("cuda:1",), ("cpu", "cuda:2"), ("cuda:3", "cpu"), ("auto",)),
    ),
    (
        "security.admins",
        ["--admin", "a", "--admin", "b"],
        "GRAMOPHONE_ADMIN=Ann Lee,c",
        'admins = "Ann Lee"',
        (("a", "b"), ("Ann Lee", "c"), ("Ann Lee",), ()),
    ),
    ("security.insecure", ["--no-insecure"], "GRAMOPHONE_INSECURE=no", "insecure = true", (False, False, True, False)),
    ("security.insecure", ["--insecure"], "GRAMOPHONE_INSECURE=1", "insecure = false", (True, True, False, False)),
    ("storage.database", ["--database", "a"], "GRAMOPHONE_DATABASE=b", 'database = "c"', ("a", "b", "c", None)),
    (
        "observability.log_level",
        ["--log-level", "debug"],
        "GRAMOPHONE_LOG_LEVEL=error",
        'log_level = "warning"',
        ("debug", "error", "warning", "info"),
    ),
    (
        "lifetime.leave_after",
        ["--leave-after", "1"],
        "GRAMOPHONE_LEAVE_AFTER=2",
        "leave_after = 3.5",
        (1, 2, 3.5, None),
    ),
    ("storage.data", ["--data", "a"], "GRAMOPHONE_DATA=b", 'data = "c"', (Path("a"), Path("b"), Path("etc/c"), None)),
]


@pytest.mark.parametrize(("name", "flags", "variable", "line", "values"), PRECEDENCE)
def test_precedence_of_flag_variable_file_and_default(
    name: str, flags: list[str], variable: str, line: str, values: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    group, _, field = name.partition(".")

    def value(*args: str) -> object:
        return getattr(getattr(parsed(*args), group), field)

    Path("etc").mkdir()
    Path("etc/server.toml").write_text(line + "\n")
    by_flag, by_variable, by_file, default = values
    config = ["--config", "etc/server.toml"]
    assert value() == default
    assert value(*config) == by_file
    monkeypatch.setenv(*variable.split("="))
    assert value(*config) == by_variable
    assert value(*config, *flags) == by_flag
    monkeypatch.setenv(variable.split("=")[0], "")
    assert value(*config) == by_file


def test_the_file_may_be_named_by_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.toml").write_text("max_queued = 3\n")
    Path("b.toml").write_text("max_queued = 4\n")
    monkeypatch.setenv("GRAMOPHONE_CONFIG", "a.toml")
    assert parsed().limits.max_queued == 3
    assert parsed("--config", "b.toml").limits.max_queued == 4


def test_the_file_may_have_home_and_absolute_paths(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder / "home"))
    Path("a.toml").write_text('data = "~/jobs"\ntokens = "/etc/tokens.json"\n')
    settings = parsed("--config", str(folder / "a.toml"))
    assert settings.storage.data == folder / "home/jobs"
    assert settings.security.tokens == Path("/etc/tokens.json")


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        ("GRAMOPHONE_MAX_QUEUED=x", "$GRAMOPHONE_MAX_QUEUED: 'x' is not a valid integer"),
        ("GRAMOPHONE_MAX_QUEUED=0", "$GRAMOPHONE_MAX_QUEUED: 0 is not in the range x>=1"),
        ("GRAMOPHONE_MAX_QUEUED=none", "$GRAMOPHONE_MAX_QUEUED: 'none' is not a valid integer"),
        ("GRAMOPHONE_GRACE=nan", "$GRAMOPHONE_GRACE: 'nan' is not a finite number"),
        ("GRAMOPHONE_KEEP_BYTES=0", "$GRAMOPHONE_KEEP_BYTES: '0' is too little for a job; give it 1MB or more"),
        ("GRAMOPHONE_KEEP_BYTES=x", "$GRAMOPHONE_KEEP_BYTES: 'x' is not a size; write it as 3GB"),
        ("GRAMOPHONE_INSECURE=maybe", "$GRAMOPHONE_INSECURE: 'maybe' is neither yes nor no; write true or false"),
        ("GRAMOPHONE_DEVICE=cpu,gpu", "$GRAMOPHONE_DEVICE: 'gpu' cannot be a device: write cuda:0"),
        ("GRAMOPHONE_DEVICE=,", "$GRAMOPHONE_DEVICE: no device is given; write auto, cpu, or cuda:0"),
        ("GRAMOPHONE_HOST=http://a", "$GRAMOPHONE_HOST: 'http://a' is a URL; write the host alone, such as a"),
        ("GRAMOPHONE_LOG_FORMAT=xml", "$GRAMOPHONE_LOG_FORMAT: 'xml' is not one of 'text', 'json'"),
        ("GRAMOPHONE_CONFIG=nowhere.toml", "nowhere.toml cannot be read: No such file or directory"),
    ],
)
def test_invalid_variables_are_reported(variable: str, words: str) -> None:
    done = run(**dict([variable.split("=", 1)]))
    assert done.exit_code == 2, done.output
    assert words in done.output


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_queue = 3", "'max_queue' in a.toml is not a setting; write max_queued"),
        ("max-queued = 3", "'max-queued' in a.toml is not a setting; write max_queued"),
        ('"--max-queued" = 3', "'--max-queued' in a.toml is not a setting; write max_queued"),
        ("PORT = 3", "'PORT' in a.toml is not a setting; write port"),
        ('device = "cpu"', "'device' in a.toml is not a setting; write devices"),
        ("until_stdin_closes = true", "'until_stdin_closes' in a.toml is not a setting; `gramophone serve --help`"),
        ('config = "b.toml"', "'config' in a.toml is not a setting"),
        ("[server]\nport = 3", "'server' in a.toml is a table, but settings are keys at the top level"),
        ("zzz = 3", "'zzz' in a.toml is not a setting; `gramophone serve --help` lists them"),
        ("max_queued = 0", "'max_queued' in a.toml: 0 is not in the range x>=1"),
        ('max_queued = "3"', "'max_queued' in a.toml is '3', but must be a whole number without quotes\n"),
        ("max_queued = 3.5", "'max_queued' in a.toml is 3.5, but must be a whole number"),
        ("max_queued = true", "'max_queued' in a.toml is true, but must be a whole number"),
        ("max_queued = [3]", "'max_queued' in a.toml is [3], but must be a whole number"),
        ("max_queued = {a = 3}", "'max_queued' in a.toml is a table, but must be a whole number"),
        ("max_queued = 2026-01-31", "'max_queued' in a.toml is datetime.date(2026, 1, 31), but must be a whole number"),
        ('metrics_port = "x"', "is 'x', but must be a whole number without quotes, or \"none\""),
        ("grace = nan", "'grace' in a.toml: nan is not a finite number"),
        (f"grace = {'9' * 400}", "is not a finite number"),
        (f"max_queued = {'9' * 5000}", "a.toml is not a TOML file"),
        ("grace = 1e6", "'grace' in a.toml: 1000000.0 is not in the range"),
        ('grace = "10"', "'grace' in a.toml is '10', but must be a number without quotes"),
        ("keep = 0", "'keep' in a.toml: '0' is too little for a job"),
        ("keep = -5", "'keep' in a.toml: '-5' is too little for a job"),
        ("keep = 1.5", "'keep' in a.toml is 1.5, but must be a size, such as keep = \"3GB\""),
        ('keep = "lots"', "'keep' in a.toml: 'lots' is not a size; write it as 3GB"),
        ('insecure = "yes"', "'insecure' in a.toml is 'yes', but must be true or false"),
        ("insecure = 1", "'insecure' in a.toml is 1, but must be true or false"),
        ("devices = []", "'devices' in a.toml: no device is given; write auto"),
        ("devices = [1]", "'devices' in a.toml is [1], but must be a list of strings, such as devices = [\"auto\"]"),
        ('devices = ["gpu"]', "'devices' in a.toml: 'gpu' cannot be a device"),
        ("data = 3", "'data' in a.toml is 3, but must be a path in quotes, such as data = \"/srv/gramophone\""),
        ('data = ""', "'data' in a.toml: it is empty; write a path, or leave it out"),
        ('models = "nowhere"', "'models' in a.toml: Directory 'nowhere' does not exist"),
        ('log_level = "loud"', "'log_level' in a.toml: 'loud' is not one of"),
        ("host = 3", "'host' in a.toml is 3, but must be a string in quotes, such as host = \"127.0.0.1\""),
        ('host = "a:7"', "'host' in a.toml: 'a:7' has a port in it"),
        ("port = 3\nport = 4", "a.toml is not a TOML file: Cannot overwrite a value"),
        ("port: 3", "a.toml is not a TOML file: "),
        ("a = " + "[" * 5000, "a.toml is not a TOML file"),
    ],
)
def test_invalid_files_are_reported(text: str, words: str) -> None:
    Path("a.toml").write_text(text)
    done = CliRunner().invoke(serve, ["--config", "a.toml"])
    assert done.exit_code == 2, done.output
    assert words in done.output


def test_a_folder_and_a_binary_file_are_refused(folder: Path) -> None:
    Path("bytes").write_bytes(b"\xff\xfe")
    for name, words in (
        (".", ". cannot be read: it is a folder, not a file"),
        ("bytes", "bytes is not a TOML file: it is not text"),
    ):
        done = run("--config", name)
        assert done.exit_code == 2
        assert words in done.output


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--keep 0", "'--keep': '0' is too little for a job; give it 1MB or more"),
        ("--keep-per-client 1", "'--keep-per-client': '1' is too little for a job; give it 100kB or more"),
        (
            "--decode-memory 1",
            "'1' is less than a camera's picture needs; give it 64MiB or more",
        ),
        ("--max-pixels 1", "'--max-pixels': 1 is not in the range x>=256"),
        ("--data=", "'--data': it is empty; write a path, or leave it out"),
        ("--idle-timeout 1e300", "'--idle-timeout': 1e+300 is not in the range"),
    ],
)
def test_values_too_small_or_too_large_are_refused(flags: str, words: str) -> None:
    done = run(*flags.split())
    assert done.exit_code == 2, done.output
    assert words in done.output


@pytest.mark.parametrize(
    ("text", "environment", "words"),
    [
        ('tls_key = "k"', {}, "--tls-key needs --tls-certificate as well (--tls-key is 'tls_key' in a.toml)"),
        ("", {"GRAMOPHONE_CLIENT_CA": "c"}, "have certificates (--client-ca is $GRAMOPHONE_CLIENT_CA)"),
        (
            "insecure = false",
            {},
            "--admin needs --tokens or --client-ca: without them",
        ),
    ],
)
def test_settings_that_need_others_are_reported(text: str, environment: dict[str, str], words: str) -> None:
    Path("a.toml").write_text(text)
    flags = ["--admin", "root"] if not environment and "tls" not in text else []
    command = [sys.executable, "-m", "gramophone_server", "--port", "0", "--config", "a.toml", *flags]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, timeout=60)
    assert done.returncode == 1
    assert words in done.stderr
    assert ("(" in done.stderr) == ("(" in words)


def test_help_is_grouped() -> None:
    lines = run("--help").stdout.splitlines()
    titles = [line[:-1] for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert titles == ["Options", *dict.fromkeys(entry.title for entry in entries(Settings))]
    assert not any("--kept-for" in line for line in lines)
