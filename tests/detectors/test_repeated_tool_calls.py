"""Calls are written as letters: "ABAB" is four calls, A and B being two tools without arguments, one second apart."""

import json

import pytest

from llm_interactive.detectors.repeated_tool_calls import (
    RepeatedToolCalls,
    ToolLoopFinding,
    ToolLoopLimits,
    break_notice,
    canonical_arguments,
    guidance,
)

LIMITS = ToolLoopLimits()
CHANCE = ToolLoopLimits(mode="chance_then_break")


def call_each(names: str, limits: ToolLoopLimits = LIMITS, seconds_apart: float = 1) -> list[ToolLoopFinding | None]:
    session = RepeatedToolCalls()
    return [session.saw(name, "{}", index * seconds_apart, limits) for index, name in enumerate(names)]


def first_loop(names: str, limits: ToolLoopLimits = LIMITS) -> int | None:
    """How many calls it took."""
    return next((index + 1 for index, finding in enumerate(call_each(names, limits)) if finding), None)


@pytest.mark.parametrize(
    ("names", "calls"),
    [
        ("AAA", None),
        ("AAAA", 4),
        ("AAABAAA", None),
        ("AAABAAAA", 8),
        ("ABABABA", None),
        ("ABABABAB", 8),
        ("XABABABAB", 9),
        ("ABCABCABCABC", 12),
        ("ABCDABCDABCDABCD", 16),
        ("AABAABAABAAB", 12),
        ("ABCDEABCDEABCDEABCDE", None),
        ("ABABCABAB", None),
    ],
)
def test_same_call_or_cycle_in_a_row_is_a_loop(names: str, calls: int | None) -> None:
    assert first_loop(names) == calls


def test_max_repeats_is_the_number_of_repeats() -> None:
    assert first_loop("A" * 9, ToolLoopLimits(max_repeats=7)) == 7
    assert first_loop("ABABABABAB", ToolLoopLimits(max_repeats=2)) == 4


@pytest.mark.parametrize("limits", [{"max_repeats": 1}, {"ttl_seconds": 0}])
def test_limits_that_make_no_sense_are_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be at least"):
        ToolLoopLimits(**limits)  # type: ignore[arg-type]


def test_calls_older_than_the_ttl_do_not_count() -> None:
    assert call_each("AAAA", seconds_apart=40)[-1] is not None  # the first call is exactly 120 s old
    assert call_each("AAAAAAAA", seconds_apart=41) == [None] * 8
    assert call_each("AAAA", ToolLoopLimits(ttl_seconds=123), seconds_apart=41)[-1] is not None


def test_a_clock_set_back_forgets_calls_of_the_future() -> None:
    session = RepeatedToolCalls()
    for _ in range(3):
        session.saw("A", "", 10_000, LIMITS)
    assert session.saw("A", "", 0, LIMITS) is None


def test_the_loop_goes_on_being_one_until_another_call_comes() -> None:
    found = call_each("AAAAAABAAA")
    assert [finding and finding.count for finding in found] == [None, None, None, 4, 5, 6, None, None, None, None]


def test_other_arguments_or_another_name_are_another_call() -> None:
    session = RepeatedToolCalls()
    calls = [("A", '{"x":1}'), ("A", '{"x":2}'), ("A", '{"x":1}'), ("B", '{"x":1}')] * 2
    assert [session.saw(name, arguments, 0, LIMITS) for name, arguments in calls] == [None] * 8


def test_arguments_are_compared_as_json() -> None:
    session = RepeatedToolCalls()
    spellings = ['{"a":1,"b":[2]}', '{"b": [2], "a": 1}', ' {"a":1,\n"b":[2]}', '{"b":[2],"\\u0061":1}']
    assert session.saw("A", spellings[0], 0, LIMITS) is None
    finding = [session.saw("A", spelling, 0, LIMITS) for spelling in spellings[1:]][-1]
    assert finding is not None
    assert finding.arguments == '{"a":1,"b":[2]}'


@pytest.mark.parametrize(
    ("arguments", "canonical"),
    [
        ("", "{}"),
        ("  \n", "{}"),
        ("{ }", "{}"),
        ('{"b":{"d":1,"c":2},"a":"é"}', '{"a":"é","b":{"c":2,"d":1}}'),
        ('{"id": 12345678901234567890123, "a": 1}', '{"a":1,"id":12345678901234567890123}'),
        (" not json ", "not json"),
        ('{"cut": "of', '{"cut": "of'),
        ('"\\ud800"', '"\\ud800"'),
        ("[" * 5000 + "]" * 5000, "[" * 5000 + "]" * 5000),
        ("[" * 50_000 + "1" * 20, "[" * 50_000 + "1" * 20),
        ('{"a":' * 400 + "1" + "}" * 400, '{"a":' * 400 + "1" + "}" * 400),
    ],
)
def test_canonical_arguments(arguments: str, canonical: str) -> None:
    assert canonical_arguments(arguments) == canonical


def test_huge_numbers_that_differ_are_different_calls() -> None:
    session = RepeatedToolCalls()
    for last in range(8):
        assert session.saw("A", f'{{"id": 1234567890123456789012{last}}}', 0, LIMITS) is None


def test_lone_surrogates_in_arguments_are_taken() -> None:
    session = RepeatedToolCalls()
    assert [session.saw("A", "\ud800", 0, LIMITS) is None for _ in range(4)] == [True, True, True, False]


@pytest.mark.parametrize(
    ("names", "holding"),
    [
        ("", ""),
        ("A", ""),
        ("AA", ""),
        ("AAA", "A"),
        ("AAAA", "A"),
        ("AAAB", ""),
        ("ABABABA", "B"),
        ("ABCABCABCAB", "C"),
        ("ABCDABCDABCDABC", "D"),
    ],
)
def test_only_a_call_that_could_complete_a_loop_is_held(names: str, holding: str) -> None:
    session = RepeatedToolCalls()
    for name in names:
        session.saw(name, "{}", 0, LIMITS)
    assert "".join(name for name in "ABCD" if session.would_complete(name, 1, LIMITS)) == holding


def test_no_call_is_held_for_calls_that_have_expired() -> None:
    session = RepeatedToolCalls()
    for _ in range(3):
        session.saw("A", "{}", 0, LIMITS)
    assert session.would_complete("A", 120, LIMITS)
    assert not session.would_complete("A", 121, LIMITS)


def test_every_loop_was_announced_by_would_complete() -> None:
    session = RepeatedToolCalls()
    for at, name in enumerate("AABABABABABCCCCCABCDABCDABCDABCDABAABBAABBAABBAABB"):
        announced = session.would_complete(name, at, LIMITS)
        assert (session.saw(name, "{}", at, LIMITS) is not None) == announced  # one argument each: no surplus either


def test_break_mode_always_breaks() -> None:
    found = [finding for finding in call_each("AAAAA") if finding]
    assert [(finding.action, finding.after_guidance) for finding in found] == [("break", False)] * 2


def test_guidance_is_given_once_and_the_same_call_after_it_breaks() -> None:
    found = call_each("AAAAA", CHANCE)
    assert [finding and (finding.action, finding.after_guidance) for finding in found[3:]] == [
        ("guide", False),
        ("break", True),
    ]


def test_a_later_loop_of_the_guided_call_breaks_and_another_call_gets_its_own_chance() -> None:
    found = [finding for finding in call_each("AAAA" + "B" + "AAA" + "A" + "CCCC", CHANCE) if finding]
    assert [(finding.name, finding.action) for finding in found] == [("A", "guide"), ("A", "break"), ("C", "guide")]


def test_guidance_on_a_cycle_holds_for_all_its_calls() -> None:
    found = [finding for finding in call_each("ABABABAB" + "A", CHANCE) if finding]
    assert [(finding.action, finding.cycle) for finding in found] == [("guide", ("A", "B")), ("break", ("B", "A"))]


def test_guidance_on_a_call_and_on_a_cycle_that_holds_it_is_the_same_chance() -> None:
    for names in ("ABABABAB" + "C" + "AAAA", "AAAA" + "BABABAB"):
        found = [finding for finding in call_each(names, CHANCE) if finding]
        assert [finding.action for finding in found] == ["guide", "break"]


def test_a_slow_second_answer_still_breaks() -> None:
    session = RepeatedToolCalls()
    assert [session.saw("A", "", at, CHANCE) is None for at in (0, 10, 20, 30)] == [True, True, True, False]
    finding = session.saw("A", "", 145, CHANCE)
    assert finding is not None
    assert finding.action == "break"


def test_guidance_is_forgotten_after_an_hour() -> None:
    session = RepeatedToolCalls()
    actions = []
    for start in (0, 3000, 8000):
        found = [session.saw("A", "", start + at, CHANCE) for at in range(4)]
        actions += [finding.action for finding in found if finding]
    assert actions == ["guide", "break", "guide"]


def test_state_survives_a_restart_as_json() -> None:
    whole, restarted = RepeatedToolCalls(), RepeatedToolCalls()
    for at, name in enumerate("BAAAAABABABABAB"):
        assert restarted.saw(name, "{}", at, CHANCE) == whole.saw(name, "{}", at, CHANCE)
        restarted = RepeatedToolCalls.from_json(json.loads(json.dumps(restarted.to_json())))
    assert restarted.to_json() == whole.to_json()


@pytest.mark.parametrize(
    "state",
    [None, [], "x", {}, {"calls": 1, "guided": {}}, {"calls": [["A"]], "guided": {}}, {"calls": [], "guided": []}],
)
def test_a_state_that_cannot_be_read_is_an_empty_one(state: object) -> None:
    assert RepeatedToolCalls.from_json(state).to_json() == RepeatedToolCalls().to_json()


def test_state_is_bounded_and_holds_no_arguments() -> None:
    session = RepeatedToolCalls()
    for index in range(3000):
        session.saw("tool", json.dumps({"password": "hunter2" * 1000, "n": index // 4}), index / 100, CHANCE)
    state = json.dumps(session.to_json())
    assert "hunter2" not in state
    assert len(state) < 4000
    for index in range(1100):
        session.saw("tool", str(index), 30, ToolLoopLimits(max_repeats=10**9))
    assert len(session.to_json()["calls"]) == 1024


def finding(**changes: object) -> ToolLoopFinding:
    values: dict[str, object] = {
        "name": "read_file",
        "arguments": '{"path":"a"}',
        "count": 4,
        "seconds": 120,
        "action": "break",
        "after_guidance": False,
        "cycle": ("read_file",),
    }
    return ToolLoopFinding(**{**values, **changes})  # type: ignore[arg-type]


def test_texts_of_the_notices() -> None:
    text = (
        "Tool call loop detected: 'read_file' invoked with identical parameters 4 times within 120s. "
        "Session stopped to prevent unintended looping. Try changing your inputs or approach."
    )
    assert break_notice(finding()) == text
    assert break_notice(finding(after_guidance=True)) == "After guidance, " + text


def test_guidance_names_what_was_repeated() -> None:
    message = guidance(finding(arguments='{"path":"' + "x" * 9000 + '"}'))
    assert "'read_file'" in message
    assert '{"path":"xxx' in message
    assert "4 times" in message
    assert len(message) < 1200
    assert "(search, read_file)" in guidance(finding(cycle=("search", "read_file")))
