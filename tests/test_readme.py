from pathlib import Path

import pytest

from llm_interactive.backends.providers import BACKENDS
from llm_interactive.settings import TABLE

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [row.environment for row in TABLE if not row.environment.endswith("_URL")])
def test_every_setting_is_named(name: str) -> None:
    assert f"`{name}`" in README


@pytest.mark.parametrize("name", BACKENDS)
def test_every_backend_has_its_base_urls(name: str) -> None:
    assert f"| `{name}` |" in README
    assert all(url in README for url in BACKENDS[name].protocols.values())


@pytest.mark.parametrize("script", ["run", "test", "check", "bench"])
def test_the_scripts_that_are_named_can_be_run(script: str) -> None:
    assert f"scripts/{script}" in README
    assert (ROOT / "scripts" / script).stat().st_mode & 0o111
