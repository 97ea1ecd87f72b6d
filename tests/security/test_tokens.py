"""The file of tokens: permissions, format, changes, and the comparison of hashes."""

import hashlib
import json
import os
import stat
from pathlib import Path

import pytest

from gramophone_server.security import tokens
from gramophone_server.security.caller import Caller
from gramophone_server.security.tokens import TokenFile, TokenFileError, add_token, read_tokens, remove_token


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "folder" / "tokens.json"


def test_tokens_are_stored_as_hashes(path):
    made = {name: add_token(path, name, admin=name == "root") for name in ("alice", "root")}
    assert len(set(made.values())) == 2
    file = TokenFile(path)
    assert file.caller(made["alice"]) == Caller("alice", admin=False)
    assert file.caller(made["root"]) == Caller("root", admin=True)
    for wrong in (
        "",
        made["alice"][:-1],
        made["alice"] + "x",
        made["alice"].lower(),
        "ümlaut",
        read_tokens(path)[0].sha256,
    ):
        assert file.caller(wrong) is None
    text = path.read_text()
    for token in made.values():
        assert token not in text
        assert len(token.removeprefix("gramophone_")) == 43  # 256 bits in base64
        assert hashlib.sha256(token.encode()).hexdigest() in text


def test_all_hashes_are_compared_in_constant_time(path, monkeypatch):
    made = [add_token(path, f"client{i}", admin=False) for i in range(5)]
    compared: list[object] = []
    compare = tokens.hmac.compare_digest  # type: ignore[attr-defined]

    def noted(a: bytes, b: bytes) -> bool:
        compared.append(a)
        return compare(a, b)  # type: ignore[no-any-return]

    monkeypatch.setattr(tokens.hmac, "compare_digest", noted)  # type: ignore[attr-defined]
    file = TokenFile(path)
    for token in (made[0], made[4], "wrong"):
        compared.clear()
        file.caller(token)
        assert len(compared) == 5


def test_only_the_owner_of_the_file_can_read_it(path):
    add_token(path, "alice", admin=False)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)  # a mounted secret may have this mode
    read_tokens(path)
    remove_token(path, "alice")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_write_is_refused(path, mode):
    add_token(path, "alice", admin=False)
    path.chmod(mode)
    with pytest.raises(TokenFileError, match="chmod 600"):
        TokenFile(path)


@pytest.mark.parametrize(
    "name", ["", ".hidden", "-x", "two words", "a/b", "../a", "line\nbreak", "x" * 65, "alice\n", "ü"]
)
def test_invalid_names_of_clients_are_refused(path, name):
    with pytest.raises(TokenFileError, match="cannot be a client's name"):
        add_token(path, name, admin=False)
    assert not path.exists()


def test_a_client_is_added_once_and_removed_once(path):
    add_token(path, "alice", admin=False)
    with pytest.raises(TokenFileError, match="has a token for alice already"):
        add_token(path, "alice", admin=True)
    with pytest.raises(TokenFileError, match="has no token for bob; it has some for alice"):
        remove_token(path, "bob")
    remove_token(path, "alice")
    assert read_tokens(path) == []


HASH = "0" * 64


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{",
        '{"format": 1}',
        '{"format": 1, "clients": {"a": 1}}',
        json.dumps({"format": 1, "clients": [{"name": "a", "admin": False}]}),
        json.dumps({"format": 1, "clients": [{"name": "a", "admin": "no", "sha256": HASH}]}),
        json.dumps({"format": 1, "clients": [{"name": "", "admin": False, "sha256": HASH}]}),
        json.dumps({"format": 1, "clients": [{"name": "a", "admin": False, "sha256": HASH.upper() + "x"}]}),
        json.dumps({"format": 1, "clients": [{"name": "a", "admin": False, "sha256": "ü" * 64}]}),
    ],
)
def test_an_invalid_file_of_tokens_is_refused(path, text):
    path.parent.mkdir()
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(TokenFileError, match="not a token file"):
        TokenFile(path)


def test_missing_files_folders_and_later_formats_are_refused(path, tmp_path):
    with pytest.raises(TokenFileError, match=r"there is no file .*tokens add NAME --file"):
        TokenFile(path)
    with pytest.raises(TokenFileError, match="cannot be read: it is a folder"):
        TokenFile(tmp_path)
    path.parent.mkdir()
    path.write_text('{"format": 2, "clients": []}')
    path.chmod(0o600)
    with pytest.raises(TokenFileError, match="upgrade gramophone"):
        TokenFile(path)


def test_changes_of_the_file_are_used(path):
    alice = add_token(path, "alice", admin=False)
    file = TokenFile(path)
    bob = add_token(path, "bob", admin=False)
    assert file.caller(bob) == Caller("bob", admin=False)
    remove_token(path, "alice")
    assert file.caller(alice) is None
    path.unlink()
    assert file.caller(bob) is None
    bob = add_token(path, "bob", admin=False)
    assert file.caller(bob) == Caller("bob", admin=False)
