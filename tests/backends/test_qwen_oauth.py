"""Qwen's sign-in, against a server that renews tokens."""

import asyncio
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from kit.replies import answer, openai_error, text
from kit.upstream import Upstream, closed_port

from llm_interactive.backends.catalog import Access
from llm_interactive.backends.qwen_oauth import FILE, QwenAccount, configured, is_signed_in
from llm_interactive.errors import UpstreamError

NOW = 1_800_000_000.0
RENEWED = {"access_token": "new", "refresh_token": "r2", "expires_in": 21600, "resource_url": "portal.qwen.ai"}


class Time:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def sign_in(home: Path, ends: float = NOW + 3600, token: str = "old", **more: Any) -> Path:
    stored = {"access_token": token, "refresh_token": "r1", "expiry_date": int(ends * 1000), "own": {"x": 1}, **more}
    path = home / FILE
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(stored))
    return path


async def access(account: QwenAccount) -> str:
    if not account.is_settled:
        await account.renew()
    return account.access().token


async def test_a_token_that_holds_is_used_without_asking(tmp_path: Path) -> None:
    account = QwenAccount(sign_in(tmp_path), "http://127.0.0.1:1", clock=Time())
    assert account.is_settled
    assert account.secrets == ("old", "r1")
    assert await access(account) == "old"
    assert account.is_settled


@pytest.mark.parametrize(
    ("resource", "base_url", "place"),
    [
        (None, None, "https://portal.qwen.ai/v1"),
        ("portal.example", None, "https://portal.example"),
        ("http://host:1/v1", None, "http://host:1/v1"),
        ("portal.example", "http://mine/v1", "http://mine/v1"),
    ],
)
async def test_where_it_is_good(tmp_path: Path, resource: str | None, base_url: str | None, place: str) -> None:
    account = QwenAccount(sign_in(tmp_path, resource_url=resource), base_url, Time())
    await account.renew()
    assert account.access() == Access(place, "old")


async def test_a_token_is_renewed_early_and_written_back(tmp_path: Path, upstream: Upstream) -> None:
    path, time = sign_in(tmp_path, NOW + 299), Time()
    upstream.enqueue(answer(RENEWED))
    account = QwenAccount(path, f"{upstream.url}/v1", time)
    assert await access(account) == "new"
    [asked] = upstream.requests
    assert (asked.method, asked.path) == ("POST", "/api/v1/oauth2/token")
    assert asked.body == b"grant_type=refresh_token&refresh_token=r1&client_id=f0304373b74a44d2b584a3fb70ca9e56"
    assert json.loads(path.read_text()) == {
        "access_token": "new",
        "refresh_token": "r2",
        "resource_url": "portal.qwen.ai",
        "expiry_date": int((NOW + 21600) * 1000),
        "own": {"x": 1},
    }
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    time.now += 21600 - 301
    assert account.is_settled
    time.now += 2
    assert not account.is_settled


async def test_many_ask_for_one_renewal(tmp_path: Path, upstream: Upstream) -> None:
    upstream.enqueue(answer(RENEWED))
    account = QwenAccount(sign_in(tmp_path, NOW - 1), f"{upstream.url}/v1", Time())
    assert await asyncio.gather(*(access(account) for _ in range(20))) == ["new"] * 20
    assert len(upstream.requests) == 1


async def test_a_link_stays_a_link(tmp_path: Path, upstream: Upstream) -> None:
    (tmp_path / "home").mkdir()
    kept = sign_in(tmp_path / "home", NOW - 1)
    path = tmp_path / "link.json"
    path.symlink_to(kept)
    upstream.enqueue(answer(RENEWED))
    assert await access(QwenAccount(path, upstream.url, Time())) == "new"
    assert path.is_symlink()
    assert json.loads(kept.read_text())["access_token"] == "new"


async def test_a_token_that_was_refused_is_renewed_once(tmp_path: Path, upstream: Upstream) -> None:
    upstream.enqueue(answer(RENEWED))
    account = QwenAccount(sign_in(tmp_path), upstream.url, Time())
    await account.renew()
    old = account.access()
    account.distrust(old)
    assert not account.is_settled
    assert await access(account) == "new"
    account.distrust(old)
    assert account.is_settled


async def test_a_sign_in_that_is_refused_says_what_to_do(tmp_path: Path, upstream: Upstream) -> None:
    time = Time()
    refusal = {"error": "invalid_grant", "error_description": "the refresh token is revoked"}
    upstream.enqueue(answer(refusal, 400), answer(RENEWED))
    account = QwenAccount(sign_in(tmp_path, NOW - 1), upstream.url, time)
    with pytest.raises(UpstreamError, match=r"refused with status 400 .*revoked.*sign in again") as raised:
        await access(account)
    assert raised.value.status == 401
    assert account.is_settled
    time.now += 31
    assert await access(account) == "new"


async def test_the_program_may_have_renewed_it_meanwhile(tmp_path: Path) -> None:
    path = sign_in(tmp_path, NOW - 1)

    def refuse(asked: Any) -> Any:
        sign_in(tmp_path, token="by the program")
        return openai_error(400, "used")

    with Upstream(answer=refuse) as upstream:
        assert await access(QwenAccount(path, upstream.url, Time())) == "by the program"


async def test_a_token_serves_to_its_end_while_it_cannot_be_renewed(tmp_path: Path) -> None:
    time = Time()
    with closed_port() as port:
        account = QwenAccount(sign_in(tmp_path, NOW + 100), f"http://127.0.0.1:{port}", time)
        assert await access(account) == "old"
        assert account.is_settled
        time.now += 101
        with pytest.raises(UpstreamError, match="cannot be renewed") as raised:
            await access(account)
    assert raised.value.status == 502


async def test_a_token_for_a_moment_does_not_make_it_spin(tmp_path: Path, upstream: Upstream) -> None:
    upstream.enqueue(answer(RENEWED | {"expires_in": 60}))
    account = QwenAccount(sign_in(tmp_path, NOW - 1), upstream.url, Time())
    assert await access(account) == "new"
    assert account.is_settled


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        (None, "cannot be read"),
        ("", "holds no token"),
        ("[]", "holds no token"),
        ('{"access_token": 1}', "holds no token"),
        ('{"access_token": "a\\nb"}', "holds no token"),
        ('{"access_token": "a", "expiry_date": "x"}', "holds no token"),
        ('{"access_token": "a", "expiry_date": 5}', "no refresh token"),
    ],
)
async def test_a_file_without_a_token(tmp_path: Path, stored: str | None, words: str) -> None:
    path = tmp_path / "creds.json"
    if stored is not None:
        path.write_text(stored)
    with pytest.raises(UpstreamError, match=words) as raised:
        await access(QwenAccount(path, "http://127.0.0.1:1", Time()))
    assert raised.value.status == 401


@pytest.mark.parametrize("body", ["", "[]", '{"access_token": "new"}', '{"access_token": 7, "expires_in": 60}'])
async def test_an_answer_without_a_token(tmp_path: Path, upstream: Upstream, body: str) -> None:
    upstream.enqueue(text(body))
    with pytest.raises(UpstreamError, match="the answer holds no token"):
        await access(QwenAccount(sign_in(tmp_path, NOW - 1), upstream.url, Time()))


async def test_a_server_in_trouble_is_not_the_sign_ins_fault(tmp_path: Path, upstream: Upstream) -> None:
    upstream.enqueue(text("<html>", 503))
    with pytest.raises(UpstreamError, match="status 503") as raised:
        await access(QwenAccount(sign_in(tmp_path, NOW - 1), upstream.url, Time()))
    assert raised.value.status == 502


async def test_what_cannot_be_written_is_used_all_the_same(
    tmp_path: Path, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    path = sign_in(tmp_path, NOW - 1)
    upstream.enqueue(answer(RENEWED))
    account = QwenAccount(path, upstream.url, Time())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
        assert await access(account) == "new"
    assert "cannot be written" in caplog.text
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_the_backend(tmp_path: Path) -> None:
    assert not is_signed_in(tmp_path)
    sign_in(tmp_path)
    assert is_signed_in(tmp_path)
    backend = configured(tmp_path, None)
    assert (backend.name, backend.keys, backend.protocols) == (
        "qwen-oauth",
        (),
        {"openai_chat": "https://portal.qwen.ai/v1"},
    )
    assert backend.account is not None
