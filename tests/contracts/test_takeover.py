"""The proxy may speak after any frame of a reply: with a notice and an end, or an error. What results is legal.

Legal is what the protocol's own reader takes: an end without a failure, or a failure that no end follows.
"""

import itertools
from collections.abc import Iterable

import pytest
from contracts import recorded
from contracts.recorded import Sample, events, said

from llm_interactive.errors import UpstreamError
from llm_interactive.events import Ended, Event, Failed, Finished, Frame, Reason, TextDelta
from llm_interactive.protocols import NAMES

NOTICE = "[Response cancelled: Loop detected]"
SOME_PLACES = 4
"""Where longer recordings are cut off; the samples are cut off everywhere."""

every_pair = pytest.mark.parametrize(("backend", "frontend"), list(itertools.product(NAMES, NAMES)))


def streams(backend: str) -> list[Sample]:
    return [each for each in recorded.replies(backend) if each.stream]


def places(sample: Sample, count: int) -> Iterable[int]:
    """After how many frames the proxy takes over; it may, as long as nothing has ended the reply."""
    if sample.id.startswith("own") or count <= SOME_PLACES:
        return range(1, count + 1)
    first = len(sample.data) % (count // SOME_PLACES) + 1
    return range(first, count + 1, count // SOME_PLACES)


def unended(frames: list[Frame]) -> list[Frame]:
    """The frames before the first that ends an answer."""
    return list(
        itertools.takewhile(lambda f: not any(isinstance(e, Ended | Finished | Failed) for e in f.events), frames)
    )


def taken_over(backend: str, frontend: str, sample: Sample, *ending: Event) -> Iterable[tuple[int, list[Event]]]:
    """For each place: what the client's reader makes of the reply."""
    frames = unended(recorded.frames(backend, sample.data, True))
    for place in places(sample, len(frames)):
        data = recorded.written(frontend, backend, [*frames[:place], Frame(b"", ending)], stream=True)
        yield place, events(frontend, data, True)


@every_pair
def test_a_notice_and_an_end_may_come_anywhere(backend: str, frontend: str) -> None:
    for sample in streams(backend):
        choices = {c for frame in unended(recorded.frames(backend, sample.data, True)) for c in _choices(frame)} | {0}
        ends = [Ended(Reason("stop"), choice) for choice in sorted(choices)]
        for place, found in taken_over(backend, frontend, sample, TextDelta(NOTICE), *ends, Finished()):
            told = said(found)
            where = f"{sample.id} after {place} frames"
            assert told.failure is None, where
            assert told.finished == 1, where
            assert told.text[0].endswith(NOTICE), where
            assert 0 in told.reasons, where


def _choices(frame: Frame) -> set[int]:
    return {getattr(event, "choice", 0) for event in frame.events}


@every_pair
def test_an_error_may_come_anywhere(backend: str, frontend: str) -> None:
    failed = Failed(UpstreamError("it broke off", 502))
    for sample in streams(backend):
        for place, found in taken_over(backend, frontend, sample, failed):
            told = said(found)
            where = f"{sample.id} after {place} frames"
            assert told.failure is not None, where
            assert "it broke off" in told.failure, where
            assert told.finished == 0, where
