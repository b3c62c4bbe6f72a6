import subprocess
import sys
from pathlib import Path

import pytest

from llm_interactive.protocols import gemini, openai_chat

SCRIPT = Path(__file__).resolve().parent.parent / "scripts/generate_docs"


def generate(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("docs") / "protocols.md"
    assert generate("--page", str(path)).returncode == 0
    return path


def table(page: Path) -> list[list[str]]:
    lines = [line for line in page.read_text().splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_every_capability_of_a_protocol_is_in_its_column(page: Path) -> None:
    head, _, *rows = table(page)
    assert all(len(row) == len(head) for row in rows)
    for module in (gemini, openai_chat):
        column = head.index(f"`{module.NAME}`")
        said = [row[column] for row in rows if row[column] != "-"]
        assert sorted(said) == sorted(module.CAPABILITIES.values())


def test_no_feature_is_listed_twice(page: Path) -> None:
    features = [row[0] for row in table(page)]
    assert len(features) == len(set(features))


def test_check_tells_whether_the_page_is_what_the_code_says(page: Path, tmp_path: Path) -> None:
    assert generate("--check", "--page", str(page)).returncode == 0
    other = tmp_path / "protocols.md"
    other.write_text(page.read_text().replace("carried", "dropped", 1))
    failed = generate("--check", "--page", str(other))
    assert failed.returncode == 1
    assert "scripts/generate_docs" in failed.stderr
    assert generate("--check", "--page", str(tmp_path / "absent.md")).returncode == 1
