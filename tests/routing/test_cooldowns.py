"""Time is a list with one number, so that the tests move it."""

import pytest
from pydantic import SecretStr

from llm_interactive.backends.catalog import ConfiguredBackend
from llm_interactive.routing.cooldowns import Cooldowns, spoken
from llm_interactive.routing.plan import Attempt
from llm_interactive.routing.refusals import Rest

BACKEND = ConfiguredBackend(
    "openai", {"openai_chat": "http://x/v1"}, tuple(map(SecretStr, ("key-a", "key-b", "key-c")))
)
DOOR = ConfiguredBackend("openai-responses", {"openai_responses": "http://x/v1"}, BACKEND.keys)
KEYLESS = ConfiguredBackend("ollama", {"openai_chat": "http://y/v1"})
NAMED = Rest(20.0, "the rate limit is reached")
UNNAMED = Rest(None, "the rate limit is reached")
ASIDE = Rest(3600.0, "the key was refused", whole_key=True, aside=True)


class Time:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def cooldowns(time: Time) -> Cooldowns:
    return Cooldowns(time)


def at(key: int | None, model: str = "m", backend: ConfiguredBackend = BACKEND) -> Attempt:
    return Attempt(backend, "openai_chat", model, key)


def left(cooldowns: Cooldowns, attempt: Attempt) -> float | None:
    found = cooldowns.resting(attempt)
    return None if found is None else found.until - cooldowns.clock()


def test_a_rate_limit_rests_one_key_for_one_model_and_ends_by_itself(cooldowns: Cooldowns, time: Time) -> None:
    cooldowns.refused(at(1), NAMED)
    assert left(cooldowns, at(1)) == 20
    assert [left(cooldowns, other) for other in (at(2), at(1, "other"), at(None, backend=KEYLESS))] == [None] * 3
    assert left(cooldowns, at(1, backend=DOOR)) == 20
    time.now += 20
    assert left(cooldowns, at(1)) is None


def test_a_wrong_key_is_put_aside_for_every_model(cooldowns: Cooldowns, time: Time) -> None:
    cooldowns.refused(at(2), ASIDE)
    assert [left(cooldowns, at(2, model)) for model in ("m", "other")] == [3600, 3600]
    assert left(cooldowns, at(1)) is None
    cooldowns.try_all_again()
    assert left(cooldowns, at(2)) is None


def test_a_shorter_rest_leaves_a_used_up_quota_aside(cooldowns: Cooldowns, time: Time) -> None:
    cooldowns.refused(at(1), Rest(86_400.0, "the quota is used up", aside=True))
    cooldowns.refused(at(1), NAMED)
    found = cooldowns.resting(at(1))
    assert found is not None
    assert (found.until - time.now, found.aside) == (86_400, True)
    kept = Cooldowns(time)
    kept.restore(cooldowns.rows())
    assert kept.resting(at(1)) is not None
    assert kept.rows() == cooldowns.rows()


def test_settings_read_again_end_no_rate_limit(cooldowns: Cooldowns) -> None:
    cooldowns.refused(at(1), NAMED)
    cooldowns.try_all_again()
    assert left(cooldowns, at(1)) == 20


def test_the_default_grows_with_each_refusal_after_the_last_ones_end(cooldowns: Cooldowns, time: Time) -> None:
    waits = []
    for _ in range(8):
        cooldowns.refused(at(1), UNNAMED)
        waits.append(left(cooldowns, at(1)))
        time.now += waits[-1] or 0
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300]
    cooldowns.answered(at(1))
    cooldowns.refused(at(1), UNNAMED)
    assert left(cooldowns, at(1)) == 5


def test_a_place_that_is_overloaded_rests_no_longer_than_a_request_waits(cooldowns: Cooldowns, time: Time) -> None:
    for expected in (5, 10, 20, 30, 30):
        cooldowns.refused(at(1), Rest(None, "overloaded", longest=30.0))
        assert left(cooldowns, at(1)) == expected
        time.now += expected


def test_a_long_quiet_time_begins_anew(cooldowns: Cooldowns, time: Time) -> None:
    cooldowns.refused(at(1), UNNAMED)
    time.now += 5 + 3600
    cooldowns.refused(at(1), UNNAMED)
    assert left(cooldowns, at(1)) == 5


def test_requests_that_were_under_way_count_once(cooldowns: Cooldowns, time: Time) -> None:
    for _ in range(200):
        cooldowns.refused(at(1), UNNAMED)
    assert left(cooldowns, at(1)) == 5
    cooldowns.refused(at(1), NAMED)
    assert left(cooldowns, at(1)) == 20
    cooldowns.refused(at(1), Rest(3.0, ""))
    assert left(cooldowns, at(1)) == 20


def test_an_answer_to_a_request_that_was_under_way_ends_nothing(cooldowns: Cooldowns) -> None:
    cooldowns.refused(at(1), NAMED)
    cooldowns.answered(at(1))
    assert left(cooldowns, at(1)) == 20


def test_a_key_that_was_put_aside_and_answers_is_back(cooldowns: Cooldowns) -> None:
    cooldowns.refused(at(1), ASIDE)
    cooldowns.answered(at(1))
    assert left(cooldowns, at(1)) is None


def test_the_key_in_use_goes_first(cooldowns: Cooldowns) -> None:
    assert [*cooldowns.in_use(BACKEND, "m")] == [1, 2, 3]
    cooldowns.answered(at(2))
    assert [*cooldowns.in_use(BACKEND, "m")] == [2, 3, 1]
    assert [*cooldowns.in_use(DOOR, "m")] == [2, 3, 1]
    assert [*cooldowns.in_use(BACKEND, "other")] == [1, 2, 3]
    fewer = ConfiguredBackend("openai", BACKEND.protocols, (BACKEND.keys[0], BACKEND.keys[2]))
    assert [*cooldowns.in_use(fewer, "m")] == [1, 2]
    assert [*cooldowns.in_use(KEYLESS, "m")] == [None]


def test_what_is_kept_finds_its_key_again_in_another_order(cooldowns: Cooldowns, time: Time) -> None:
    cooldowns.refused(at(1), NAMED)
    cooldowns.refused(at(2), ASIDE)
    cooldowns.refused(at(3), Rest(2.0, "soon over"))
    cooldowns.refused(at(None, backend=KEYLESS), UNNAMED)
    time.now -= 1
    rows = cooldowns.rows()
    assert not [row for row in rows if any("key-" in str(each) for each in row)]
    again = Cooldowns(time)
    again.restore(rows)
    turned = ConfiguredBackend("openai", BACKEND.protocols, BACKEND.keys[::-1])
    assert left(again, at(3, backend=turned)) == 21
    assert [left(again, at(key, backend=turned)) for key in (1, 2)] == [None, None]
    assert left(again, at(None, backend=KEYLESS)) == 6


def test_what_is_known_goes_before_what_was_stored(cooldowns: Cooldowns) -> None:
    cooldowns.refused(at(1), NAMED)
    rows = cooldowns.rows()
    cooldowns.refused(at(1), Rest(50.0, ""))
    cooldowns.restore(rows)
    assert left(cooldowns, at(1)) == 50


def test_each_change_is_told(time: Time) -> None:
    told: list[None] = []
    cooldowns = Cooldowns(time, lambda: told.append(None))
    cooldowns.refused(at(1), NAMED)
    cooldowns.answered(at(2))
    assert len(told) == 1
    time.now += 20
    cooldowns.answered(at(1))
    assert len(told) == 2


def test_key_states_in_words(cooldowns: Cooldowns, time: Time) -> None:
    cooldowns.refused(at(1), NAMED)
    cooldowns.refused(at(2), ASIDE)
    cooldowns.refused(at(None, backend=KEYLESS), Rest(200.0, "overloaded"))
    assert cooldowns.lines([BACKEND, DOOR, KEYLESS]) == [
        "openai key 1 for m: in cool-down for 20 s (the rate limit is reached)",
        "openai key 2: put aside for 60 min (the key was refused)",
        "ollama for m: in cool-down for 4 min (overloaded)",
    ]
    time.now += 4000
    assert cooldowns.lines([BACKEND, KEYLESS]) == []


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (34.01, "35 s"), (119, "119 s"), (130, "3 min"), (7140, "119 min"), (86400, "24 h")],
)
def test_spans_in_words(seconds: float, words: str) -> None:
    assert spoken(seconds) == words


def test_memory_is_bounded(cooldowns: Cooldowns, time: Time) -> None:
    for number in range(10_100):
        cooldowns.refused(at(1, f"m{number}"), NAMED)
        cooldowns.answered(at(1, f"n{number}"))
    assert len(cooldowns.rows()) == 10_000
    assert left(cooldowns, at(1, "m10099")) == 20
