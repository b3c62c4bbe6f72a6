import pytest

from llm_interactive.routing.policies import ORDERS

RINGS = [[1, 2, 3], [None], [1, 2]]
IN_USE = [[2, 3, 1], [None], [2, 1]]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("k", [(0, 2), (0, 3), (0, 1)]),
        ("m", [(0, 1), (1, None), (2, 1)]),
        ("km", [(0, 2), (0, 3), (0, 1), (1, None), (2, 2), (2, 1)]),
        ("mk", [(0, 1), (1, None), (2, 1), (0, 2), (2, 2), (0, 3)]),
    ],
)
def test_the_order_of_a_policy(policy: str, expected: list[tuple[int, int | None]]) -> None:
    assert ORDERS[policy](RINGS, IN_USE) == expected


@pytest.mark.parametrize("policy", ORDERS)
def test_no_elements_no_attempts(policy: str) -> None:
    assert ORDERS[policy]([], []) == []
