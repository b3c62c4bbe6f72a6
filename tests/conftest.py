"""Fixtures that every test may use: a clean environment, scripted providers, the running proxy."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from kit.certificates import Authority
from kit.proxy import RunningProxy, running_proxy
from kit.upstream import Upstream

PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(scope="session", autouse=True)
def _no_inherited_settings() -> Iterator[None]:
    """No key, base URL or proxy of whoever runs the tests reaches them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in tuple(os.environ):
            if "_API_KEY" in name or name.endswith("_API_BASE_URL") or name.upper() in PROXY_VARIABLES:
                patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A provider over plain HTTP/1.1; `enqueue` its replies."""
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def tls_upstream(authority: Authority) -> Iterator[Upstream]:
    with Upstream(authority=authority) as upstream:
        yield upstream


@pytest.fixture
def http2_upstream(authority: Authority) -> Iterator[Upstream]:
    with Upstream(authority=authority, http2=True) as upstream:
        yield upstream


@pytest.fixture
def start_proxy(tmp_path: Path) -> Iterator[Callable[..., RunningProxy]]:
    """`running_proxy` in the test's own folder, stopped when the test ends."""
    with ExitStack() as stack:

        def start(*args: Any, **options: Any) -> RunningProxy:
            return stack.enter_context(partial(running_proxy, home=tmp_path)(*args, **options))

        yield start
