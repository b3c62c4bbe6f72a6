"""Whoever has seen the end of a reply finds it in the record, whatever happens to the proxy (SPEC 10).

`scripts/kill_rounds` does the same as often as one likes.
"""

from pathlib import Path

import pytest
from kit.killed import round_of


@pytest.mark.parametrize("seed", range(3))
def test_what_a_client_saw_to_its_end_survives_kill_9(tmp_path: Path, seed: int) -> None:
    seen, lost = round_of(tmp_path, seed)
    assert seen > 0
    assert lost == []
