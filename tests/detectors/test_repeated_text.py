import json
import random
import string
import tracemalloc
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llm_interactive.detectors.repeated_text import Finding, RepeatedText, TextLoopLimits, text_loop_notice

LIMITS = TextLoopLimits()
SAMPLES = Path(__file__).parents[2].parent / "shared/loop_samples"
SENTENCE = "I will now check the file again and run the tests. "

property_test = settings(max_examples=60, derandomize=True, database=None, deadline=None)


def watch(text: str, piece: int = 200, limits: TextLoopLimits = LIMITS) -> Finding | None:
    return watch_cuts(text, range(piece, len(text), piece), limits)


def watch_cuts(text: str, cuts: "range | list[int]", limits: TextLoopLimits = LIMITS) -> Finding | None:
    """Feeds the text cut at these offsets; a loop must be told in the piece that completes it, and only once."""
    watcher = RepeatedText(limits)
    findings = []
    for start, end in pairwise([0, *cuts, len(text)]):
        finding = watcher.saw(text[start:end])
        if finding:
            findings.append(finding)
            assert start < finding.position <= end
    assert len(findings) <= 1
    return findings[0] if findings else None


def words(seed: int, length: int) -> str:
    return "".join(random.Random(seed).choices(string.ascii_letters + " ", k=length))


# What is found, and where


@pytest.mark.parametrize("period", [1, 2, 3, 5, 10, 24, 25, 26, 49, 50, 51, 100, 250, 499, 500])
def test_a_loop_is_found_within_the_threshold_and_one_chunk(period: int) -> None:
    prefix, pattern = words(period, 1234) + "|", words(period + 1, period)
    finding = watch(prefix + pattern * 60)
    assert finding is not None
    assert finding.pattern == pattern
    assert 10 * period <= finding.position - len(prefix) <= 10 * period + 50
    assert finding.repeats == (finding.position - len(prefix)) // period


@property_test
@given(
    period=st.integers(1, 500),
    prefix=st.integers(0, 5000),
    seed=st.integers(0, 10**6),
    cuts=st.lists(st.integers(0, 9000), max_size=30),
)
def test_any_period_after_any_prefix_however_cut(period: int, prefix: int, seed: int, cuts: list[int]) -> None:
    text = words(seed, prefix) + words(seed + 1, period) * (60 // period + 11)
    finding = watch_cuts(text, sorted(cut for cut in cuts if cut < len(text)))
    assert finding is not None
    assert finding.position <= prefix + 10 * period + 50
    assert len(finding.pattern) <= period
    assert finding == watch(text, 1) == watch(text, 17) == watch(text, 10**6)


@property_test
@given(st.integers(0, 10**6), st.integers(5, 60), st.integers(0, 20_000))
def test_random_text_is_never_a_loop(seed: int, letters: int, length: int) -> None:
    text = "".join(random.Random(seed).choices(string.printable[:letters], k=length))
    assert watch(text) is None


def exhaustive_search(text: str, limits: TextLoopLimits) -> tuple[int, int] | None:
    """Earliest (position, period) by trying every period on every character: what the detector must equal."""
    found = []
    for period in range(1, 2 * limits.max_pattern_length):
        factor = 2 if period > limits.max_pattern_length else 1
        times = limits.loop_threshold
        needed = factor * max(times * period, (times - 1) * period + limits.chunk_size)
        start = 0
        for at in range(period, len(text)):
            if text[at] != text[at - period]:
                start = at - period + 1
            if at - start + 1 >= needed:
                found.append((at + 1, period))
                break
    return min(found, default=None)


loop_parts = st.lists(
    st.tuples(st.text("ab", max_size=9), st.text("ab", min_size=1, max_size=39), st.integers(1, 14)), max_size=4
)


@settings(property_test, max_examples=150)
@given(loop_parts, st.sampled_from([5, 7, 10]), st.integers(2, 20))
def test_equals_an_exhaustive_search(parts: list[tuple[str, str, int]], threshold: int, chunk: int) -> None:
    limits = TextLoopLimits(max_pattern_length=20, chunk_size=chunk, loop_threshold=threshold)
    text = "".join(prefix + pattern * times for prefix, pattern, times in parts)
    finding = watch(text, 9, limits)
    assert (finding and (finding.position, len(finding.pattern))) == exhaustive_search(text, limits)


@property_test
@given(loop_parts, st.lists(st.integers(0, 2000), max_size=40))
@example([("", "a", 14)] * 4, [1, 1, 1, 30])
def test_empty_pieces_and_any_cuts_change_nothing(parts: list[tuple[str, str, int]], cuts: list[int]) -> None:
    limits = TextLoopLimits(buffer_size=100, max_pattern_length=20, chunk_size=10, loop_threshold=4)
    text = "".join(prefix + pattern * times + "\n```\n- \n" for prefix, pattern, times in parts)
    cuts = sorted(cut for cut in cuts if cut < len(text))
    assert watch_cuts(text, cuts, limits) == watch(text, 1, limits) == watch(text, 10**6, limits)


def test_a_pattern_may_hold_shorter_repeats() -> None:
    a, b = words(1, 25), words(2, 25)
    form = "The name and the address of" + " " * 30 + "and the year of birth, " + "-" * 30 + "\n"
    for pattern in (a * 2 + b * 2, form, "ab" * 26 + "c", (a * 3 + b) * 2 + "end"):
        finding = watch(words(3, 333) + "|" + pattern * 12)
        assert finding is not None
        assert (finding.pattern, finding.position) == (pattern, 334 + 10 * len(pattern))


def test_a_loop_that_begins_after_half_a_million_characters_is_found() -> None:
    prefix = words(7, 500_000) + "|"
    finding = watch(prefix + SENTENCE * 12)
    assert finding == Finding(SENTENCE, 10, len(prefix) + 10 * len(SENTENCE))


def test_text_beyond_ascii() -> None:
    for pattern in ("我会再检查一次文件。", "Ещё раз проверю файл. ", "もう一度やります👍🏽。"):
        finding = watch("…" + pattern * 20, 3)
        assert finding is not None
        assert finding.pattern == pattern


# The settings


def position(text: str, **changes: int) -> int | None:
    finding = watch(text, limits=TextLoopLimits(**changes))
    return finding and finding.position


def test_loop_threshold_is_the_number_of_repeats() -> None:
    assert position("x" + words(1, 80) * 40) == 801
    assert position("x" + words(1, 80) * 40, loop_threshold=15) == 1201
    assert position("x" + words(1, 80) * 40, loop_threshold=4) == 321


def test_chunk_size_is_the_least_text_that_must_be_repeated() -> None:
    assert position("x" + "a" * 400) == 1 + 9 + 50
    assert position("x" + "a" * 400, chunk_size=20) == 1 + 9 + 20
    assert position("x" + "a" * 400, chunk_size=300) == 1 + 9 + 300


def test_max_pattern_length_is_the_longest_pattern_found_at_the_threshold() -> None:
    text = "x" + words(1, 200) * 40
    assert position(text, max_pattern_length=200) == 2001
    assert position(text, max_pattern_length=199) == 4001
    assert position(text, max_pattern_length=101) == 4001
    assert position(text, max_pattern_length=100) is None


def test_max_history_length_is_how_far_back_a_repeat_is_seen() -> None:
    text = "x" + words(1, 400) * 20
    assert position(text, max_history_length=400) == 4001
    assert position(text, max_history_length=399) is None


def test_buffer_size_is_the_text_that_is_compared() -> None:
    text = "x" + words(1, 400) * 20
    assert position(text, buffer_size=1000) == 4001
    assert position(text, buffer_size=799) is None


def test_buffer_size_is_how_long_a_ruler_may_be() -> None:
    assert position("x" + "-" * 5000) == 2049
    assert position("x" + "-" * 5000, buffer_size=300) == 301


@pytest.mark.parametrize("limits", [{"chunk_size": 1}, {"loop_threshold": 1}])
def test_limits_that_make_no_sense_are_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 2"):
        TextLoopLimits(**limits)


# Legitimate repetition: more of it is allowed, but not for ever

RULERS = {
    "ruler": "-",
    "double ruler": "=",
    "line of box drawing": "─┼",
    "ruled lines": "-" * 78 + "\n",
    "separator of a wide table": "|---",
    "blanks": " ",
    "empty lines": " \n",
    "dot leaders": ". ",
    "fence with a ruler": "~",
}


@pytest.mark.parametrize("pattern", RULERS.values(), ids=RULERS)
def test_rulers_and_blanks_may_fill_the_buffer(pattern: str) -> None:
    assert watch("Title\n" + (pattern * 2000)[:2000] + "\nText") is None
    finding = watch("Title\n" + pattern * 3000)
    assert finding is not None
    assert 2048 <= finding.position <= 2048 + 7


ROWS = {
    "table row": "| N/A | none |\n",
    "list item": "- to be done\n",
    "quotation": "> quoted\n",
    "code line": "    counter += step(counter);\n",
    "hex table": "0x00, ",
    "zeros": "0",
    "largest number": "f",
    "numbers": "0, 1, ",
    "values": "null, true, ",
    "board of emoji": "🟩🟦",
    "markup": "<td></td>\n",
}


@pytest.mark.parametrize("pattern", ROWS.values(), ids=ROWS)
def test_rows_and_data_have_four_times_the_threshold(pattern: str) -> None:
    length = 4 * max(10 * len(pattern), 9 * len(pattern) + 50)
    text = "As follows:\n" + pattern * 300
    finding = watch(text)
    assert finding is not None
    assert abs(finding.position - len("As follows:\n") - length) <= 1  # a line break before may belong to the run
    assert watch(text[: length - 3] + "\nEnd of it.") is None


@pytest.mark.parametrize(("opening", "closing"), [("```", "```"), ("```python", "```"), ("  ~~~~ js", "  ~~~~~")])
def test_code_in_a_fence_has_four_times_the_threshold(opening: str, closing: str) -> None:
    line = "assert parse(the_text_of_the_reply, strictly=True) is None\n"
    assert watch(f"So:\n{opening}\n{line * 35}{closing}\nDone.") is None
    finding = watch(f"So:\n{opening}\n{line * 90}")
    assert finding is not None
    assert finding.repeats == 40


def test_after_the_fence_words_count_as_words_again() -> None:
    text = f"```\ncode\n```\n{SENTENCE * 30}"
    finding = watch(text)
    assert finding is not None
    assert finding.repeats == 10


@pytest.mark.parametrize("line", ["Use ``` here", "```one line```", "``"])
def test_a_line_that_is_no_fence_neither_opens_nor_closes_one(line: str) -> None:
    outside, inside = watch(f"{line}\n{SENTENCE * 60}"), watch(f"```\n{line}\n{SENTENCE * 60}")
    assert outside is not None
    assert inside is not None
    assert (outside.repeats, inside.repeats) == (10, 40)


def test_the_fence_is_known_however_far_back_and_however_cut() -> None:
    text = f"```python\n{words(5, 20_000)}\n{SENTENCE * 60}"
    assert watch(text, 1) == watch(text, 3) == watch(text, 10**6)
    finding = watch(text)
    assert finding is not None
    assert finding.repeats == 40


def test_a_fence_is_seen_at_every_offset() -> None:
    for length in range(2300, 2700, 7):
        finding = watch(f"{words(length, length)}\n```python\n{SENTENCE * 60}", 5)
        assert finding is not None
        assert finding.repeats == 40


def test_rows_are_rows_wherever_the_repetition_begins() -> None:
    finding = watch("now to be done\n" + "- it has yet to be done\n" * 90)
    assert finding is not None
    assert finding.pattern.startswith(" to be done\n")
    assert finding.repeats > 40


def test_the_same_code_block_again_and_again_is_a_loop() -> None:
    finding = watch("```sh\nmake all the tests\n```\n" * 20)
    assert finding is not None
    assert finding.repeats == 10


@pytest.mark.parametrize(
    "lines",
    [
        [f"{n}. The same long text that every single item of this list begins with, and then some" for n in range(200)],
        [f"| {a} x {b} | {a * b} |" for a in range(1, 21) for b in range(1, 21)],
        [f"2026-11-23 08:{n // 60:02}:{n % 60:02} INFO retrying the connection" for n in range(300)],
        [f"{words(n, 40)}\nwith hey, ho, the wind and the rain,\n{words(-n, 30)}\nfor the rain" for n in range(1, 40)],
        [f'{{"id": {n}, "value": null, "tags": [], "parent": null}},' for n in range(200)],
    ],
)
def test_numbered_and_differing_lines_are_no_loop(lines: list[str]) -> None:
    assert watch("\n".join(lines)) is None


@pytest.mark.parametrize("pattern", ["!", "ha", "OK. ", "No!!! ", SENTENCE, "- I will do it\n", "x = 1\n", "🙂", "7 "])
def test_whatever_goes_on_for_ever_is_found(pattern: str) -> None:
    assert watch("Well. " + pattern * 3000) is not None


# Samples of real replies


def sample_files(folder: str) -> list[Path]:
    return sorted(path for path in (SAMPLES / folder).rglob("*") if path.is_file() and path.name != "INDEX.tsv")


needs_samples = pytest.mark.skipif(not SAMPLES.exists(), reason="no samples beside the repository")


@needs_samples
def test_healthy_samples_are_no_loops() -> None:
    files = sample_files("healthy")
    assert len(files) > 50
    flagged = [(path.name, piece) for path in files for piece in (3, 200, 10**6) if watch(path.read_text(), piece)]
    assert flagged == []


NOT_PERIODIC = {"gemini-cli-13322.json", "oh-my-pi-8701.json", "vllm-15752.json"}
"""Sentences in varying order and word salad: no stretch of them equals itself shifted ten times."""


@needs_samples
def test_looping_samples_are_found() -> None:
    missed = set()
    for path in sample_files("looping"):
        sample = json.loads(path.read_text())
        if "response" in sample:
            continue  # the same stream as the deltas beside it
        text = "".join(sample["deltas"]) if "deltas" in sample else (sample["unit"] or "") * 25 or sample["observed"]
        if watch(text, 4) is None:
            missed.add(path.name)
    assert missed == NOT_PERIODIC
    tail = "I'll do it.\n  I'll execute.\n  "  # how the first of them ends, had it not been stopped
    assert (
        watch(json.loads((SAMPLES / "looping/gemini-cli-13322.json").read_text())["observed"] + ".\n  " + tail * 5)
        is not None
    )


# Cost and notice


STREAMS = {
    "ASCII": words(1, 50_000),
    "emoji": "".join(random.Random(1).choices([chr(code) for code in range(0x1F600, 0x1F680)], k=50_000)),
    "one line repeated in a fence": "```\n" + (words(2, 450) + "\n") * 39,
}


@pytest.mark.parametrize("text", STREAMS.values(), ids=STREAMS)
def test_memory_is_bounded(text: str) -> None:
    pieces = [text[at : at + 4] for at in range(0, len(text), 4)] + [text]
    tracemalloc.start()
    try:
        watcher = RepeatedText(LIMITS)
        for piece in pieces:
            watcher.saw(piece)
            assert tracemalloc.get_traced_memory()[0] < 20_000
    finally:
        tracemalloc.stop()


def test_after_a_finding_nothing_is_kept_and_nothing_is_said() -> None:
    watcher = RepeatedText(LIMITS)
    assert watcher.saw(SENTENCE * 10) is not None
    assert watcher.saw(SENTENCE * 100) is None


def test_notice() -> None:
    assert text_loop_notice(Finding("ha ", 25, 75)) == (
        "[Response cancelled: Loop detected - Pattern 'ha ' repeated 25 times]"
    )


def test_notice_is_one_line() -> None:
    assert text_loop_notice(Finding("Ja, é\n\tnein\u2028", 10, 80)) == (
        "[Response cancelled: Loop detected - Pattern 'Ja, é\\n\\tnein\\u2028' repeated 10 times]"
    )
