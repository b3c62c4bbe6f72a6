"""The walk along attempts. Time is a number that the tests move."""

import pytest
from pydantic import SecretStr

from llm_interactive.backends.catalog import Access, Account, ConfiguredBackend
from llm_interactive.errors import BadRequest, ProxyError, UpstreamError
from llm_interactive.routing.cooldowns import Cooldowns
from llm_interactive.routing.plan import Attempt
from llm_interactive.routing.refusals import Rest
from llm_interactive.walk import Wait, Walk

BACKEND = ConfiguredBackend("openai", {"openai_chat": "http://x/v1"}, tuple(map(SecretStr, ("a", "b", "c"))))
KEYS = [Attempt(BACKEND, "openai_chat", "m", number) for number in (1, 2, 3)]
OTHER = Attempt(ConfiguredBackend("other", {"openai_chat": "http://y/v1"}), "openai_chat", "n")


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


def walk(cooldowns: Cooldowns, *attempts: Attempt) -> Walk:
    begun = Walk(cooldowns, cooldowns.clock)
    begun.begin(attempts or KEYS)
    return begun


def go(walk: Walk, error: ProxyError | None = None) -> Attempt | Wait | None:
    """The next step; it is made, and refused with the error."""
    step = walk.next()
    if isinstance(step, Attempt):
        walk.make(step)
        if error is not None:
            walk.refused(error)
    return step


def limited(seconds: int) -> UpstreamError:
    return UpstreamError("slow down", 429, headers=(("retry-after", str(seconds)),))


def rest(seconds: float) -> Rest:
    return Rest(seconds, "the rate limit is reached")


def test_each_attempt_is_made_once_and_then_the_last_error_is_told(cooldowns: Cooldowns) -> None:
    ours = walk(cooldowns)
    assert [go(ours, UpstreamError(f"no {number}", 500)) for number in range(4)] == [*KEYS, None]
    assert str(ours.gave_up()) == "no 2"
    assert ours.lines() == [f"openai:m key {number}: 500 no {number - 1}" for number in (1, 2, 3)]


def test_a_key_that_rests_is_passed_over_and_waited_for_when_nothing_else_is_left(
    cooldowns: Cooldowns, time: Time
) -> None:
    cooldowns.refused(KEYS[0], rest(20))
    ours = walk(cooldowns)
    assert [go(ours, UpstreamError("no", 500)) for _ in range(3)] == [KEYS[1], KEYS[2], Wait(20)]
    time.now += 12
    assert go(ours) == Wait(8)
    time.now += 8
    assert go(ours) == KEYS[0]


def test_nobody_waits_longer_than_half_a_minute_in_all(cooldowns: Cooldowns, time: Time) -> None:
    cooldowns.refused(KEYS[0], rest(20))
    ours = walk(cooldowns, KEYS[0])
    assert ours.next() == Wait(20)
    time.now += 10
    cooldowns.refused(KEYS[0], rest(21))  # by another request
    assert ours.next() is None
    told = ours.gave_up()
    assert (told.status, told.headers) == (429, (("retry-after", "21"),))
    assert str(told) == "every key that could answer rests; the first is ready in 21 s"
    assert ours.lines() == ["openai:m key 1: not tried, it rests for 21 s (the rate limit is reached)"]


def test_who_may_not_wait_gives_up(cooldowns: Cooldowns) -> None:
    cooldowns.refused(KEYS[0], rest(1))
    assert walk(cooldowns, KEYS[0]).next(may_wait=False) is None


def test_the_client_is_told_when_the_soonest_key_is_ready(cooldowns: Cooldowns) -> None:
    ours = walk(cooldowns)
    for seconds in (300, 60, 100):
        go(ours, limited(seconds))
    assert go(ours) is None
    assert dict(ours.gave_up().headers) == {"retry-after": "60"}


def test_the_only_keys_own_words_stay(cooldowns: Cooldowns) -> None:
    ours = walk(cooldowns, KEYS[0])
    go(ours, UpstreamError("slow down", 429, headers=(("retry-after", "1"), ("retry-after-ms", "1250"))))
    assert ours.gave_up().headers == (("retry-after", "1"), ("retry-after-ms", "1250"))


def test_other_errors_name_no_time(cooldowns: Cooldowns) -> None:
    ours = walk(cooldowns)
    go(ours, limited(60))
    go(ours, UpstreamError("no", 500))
    go(ours, UpstreamError("no", 500))
    assert ours.gave_up().headers == ()


def test_a_key_put_aside_is_asked_only_where_nothing_else_ever_was(cooldowns: Cooldowns) -> None:
    aside = Rest(3600, "the key was refused", whole_key=True, aside=True)
    cooldowns.refused(KEYS[0], aside)
    ours = walk(cooldowns)
    assert [go(ours, UpstreamError("no", 500)) for _ in range(3)] == [KEYS[1], KEYS[2], None]
    for key in KEYS:
        cooldowns.refused(key, aside)
    ours = walk(cooldowns)
    assert [go(ours, UpstreamError("wrong key", 401)) for _ in range(4)] == [*KEYS, None]
    assert str(ours.gave_up()) == "wrong key"


def test_a_model_that_is_not_there_is_not_asked_of_other_keys(cooldowns: Cooldowns) -> None:
    ours = walk(cooldowns, *KEYS, OTHER)
    assert [go(ours, UpstreamError("The model does not exist", 404)) for _ in range(3)] == [KEYS[0], OTHER, None]


def test_what_cannot_be_said_to_a_backend_is_not_tried_with_its_other_keys(cooldowns: Cooldowns) -> None:
    ours = walk(cooldowns, *KEYS, OTHER)
    assert [go(ours, BadRequest("no words for it")) for _ in range(3)] == [KEYS[0], OTHER, None]
    assert cooldowns.resting(KEYS[0]) is None


def test_the_clients_own_fault_ends_the_walk(cooldowns: Cooldowns) -> None:
    ours = walk(cooldowns)
    assert [go(ours, UpstreamError("no", 400)) for _ in range(2)] == [KEYS[0], None]


def test_an_attempt_on_its_way_is_late_when_its_key_rests_meanwhile(cooldowns: Cooldowns) -> None:
    ours = walk(cooldowns)
    go(ours)
    assert not ours.is_late()
    cooldowns.refused(KEYS[0], rest(60))
    assert ours.is_late()
    assert ours.tries == []
    assert go(ours) == KEYS[1]


def test_the_key_that_answers_is_in_use(cooldowns: Cooldowns) -> None:
    ours = walk(cooldowns)
    go(ours, limited(5))
    go(ours)
    ours.answered()
    assert [*cooldowns.in_use(BACKEND, "m")] == [2, 3, 1]


def test_nothing_is_learnt_from_the_clients_own_credential(cooldowns: Cooldowns) -> None:
    cooldowns.refused(KEYS[0], rest(60))
    ours = Walk(cooldowns, cooldowns.clock)
    ours.own = BACKEND
    ours.begin(KEYS)
    assert go(ours, limited(60)) == KEYS[0]
    assert go(ours) == KEYS[1]
    ours.answered()
    assert cooldowns.resting(KEYS[1]) is None
    assert [*cooldowns.in_use(BACKEND, "m")] == [1, 2, 3]


class SignIn(Account):
    is_settled = True
    secrets = ("token",)

    def __init__(self) -> None:
        self.distrusted: list[Access] = []

    def access(self) -> Access:
        return Access("http://x", "token")

    def distrust(self, access: Access) -> None:
        self.distrusted.append(access)

    async def renew(self) -> None:
        pass


def test_a_sign_in_that_was_refused_gets_one_more_chance(cooldowns: Cooldowns) -> None:
    account = SignIn()
    attempt = Attempt(ConfiguredBackend("q", {"openai_chat": "http://x"}, account=account), "openai_chat", "m")
    ours = walk(cooldowns, attempt)
    for _ in range(2):
        assert go(ours) is attempt
        ours.tries[-1].access = account.access()
        ours.refused(UpstreamError("no", 401))
    assert go(ours) is None
    assert account.distrusted == [account.access()] * 2
    assert cooldowns.resting(attempt) is None
    ours = walk(cooldowns, attempt)
    go(ours, limited(60))
    assert cooldowns.resting(attempt) is not None


def test_an_attempt_made_again_alone(cooldowns: Cooldowns) -> None:
    ours = walk(cooldowns)
    go(ours)
    ours.again(alone=False)
    assert [go(ours), go(ours)] == [KEYS[0], KEYS[1]]
    ours.again(alone=True)
    assert [go(ours), go(ours)] == [KEYS[1], None]


def test_no_attempt_at_all(cooldowns: Cooldowns) -> None:
    ours = Walk(cooldowns, cooldowns.clock)
    ours.begin([])
    assert ours.next() is None
    assert str(ours.gave_up()) == "no backend could be tried"
