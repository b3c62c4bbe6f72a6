"""A reply that says the same thing over and over (SPEC section 7), found on its text as it streams.

Every half chunk, the newest half chunk is looked for in the text before it. Where it recurs, the look widens until it
proves a run: a stretch of text that equals itself shifted by its period. A run is then compared character by character
and is a loop when it lasts longer than a pattern of its kind may (`Kind`): numbered or differing lines are never a run.
Everything is decided at offsets that follow from the text alone, so that neither verdict nor position depends on how
the stream is cut. Cost per character is constant; `buffer_size` characters are kept. Chunks are searched for as they
are, not by a table of their hashes: that is exact, and in CPython several times faster.
"""

import re
from bisect import bisect_left
from dataclasses import dataclass
from enum import Enum

FENCE = re.compile(r"[ \t>]*(`{3,}|~{3,})[ \t]*(.*)")
FENCE_LINE = 200
"""Characters of a line that are looked at for a fence."""
RULERS = frozenset("-–—=_*#~+.·•|:/\\<>^'`\"")
LISTED = re.compile(r"\s*([-*+•|>#]|\d+[.)]\s)")
CODE_ENDS = (",", ";", "{", "}", "(", ")", "[", "]", "|", ">", "\\")
LITERALS = re.compile(r"\b(?:true|false|null|none|nan)\b", re.IGNORECASE)
SET_OUT_FACTOR = 4
LONG_FACTOR = 2
PORTION = 128
"""Characters worked on at once; bounds the memory that a huge piece takes."""


@dataclass(frozen=True, slots=True)
class TextLoopLimits:
    """LOOP_DETECTION_* of SPEC section 2; lengths in characters."""

    buffer_size: int = 2048
    """Text kept to compare with; a ruler or blanks are a loop only when they fill it."""
    max_pattern_length: int = 500
    """Longest pattern found at the threshold; below twice this length it takes twice the threshold."""
    chunk_size: int = 50
    """A pattern or a chunk, whichever is longer, must be seen `loop_threshold` times."""
    loop_threshold: int = 10
    """From 5 on a loop is found at its very character; below, intricate patterns may take a repetition more."""
    max_history_length: int = 1000
    """How far back an earlier occurrence still counts as close."""

    def __post_init__(self) -> None:
        if self.chunk_size < 2 or self.loop_threshold < 2:
            raise ValueError("chunk_size and loop_threshold must be at least 2")


@dataclass(frozen=True, slots=True)
class Finding:
    """`position`: characters of the stream up to and with the one that made it a loop; the text before stays."""

    pattern: str
    repeats: int
    position: int


def text_loop_notice(finding: Finding) -> str:
    """The text that the client gets in place of the rest, on one line whatever the pattern holds."""
    pattern = "".join(char if char.isprintable() else repr(char)[1:-1] for char in finding.pattern)
    return f"[Response cancelled: Loop detected - Pattern '{pattern}' repeated {finding.repeats} times]"


class Kind(Enum):
    """How much repetition of a pattern is legitimate."""

    WORDS = "words"
    """Anything else: a loop at the threshold."""
    SET_OUT = "set out"
    """Code in a fence, rows of tables and lists, data (64 zeros are a hash): a loop at four times the threshold."""
    RULER = "ruler"
    """Rulers, frames and blanks: a loop when they fill the buffer. They cost few tokens."""


def kind_of(pattern: str, fenced: bool) -> Kind:
    """`fenced`: the repeats stand inside a code fence. A pattern with fences of its own is whole code blocks."""
    if all(char.isspace() or char in RULERS or "─" <= char <= "◿" for char in pattern):
        return Kind.RULER
    if fenced and "```" not in pattern and "~~~" not in pattern:
        return Kind.SET_OUT
    return Kind.SET_OUT if _is_data(pattern) or _is_rows(pattern) else Kind.WORDS


def _is_data(pattern: str) -> bool:
    """Less than a third letters. f does not count, since 64 of them are the largest 256-bit number, nor do words of
    data; the repeats may begin in the middle of one."""
    letters = sum(char.isalpha() and char not in "fF" for char in LITERALS.sub("", pattern * 3))
    return letters < len(pattern)


def _is_rows(pattern: str) -> bool:
    """Every line looks like a row, list item, heading, quotation or line of code, wherever the period starts."""
    first_break = pattern.find("\n")
    if first_break < 0:
        return False
    whole_lines = pattern[first_break + 1 :] + pattern[:first_break]
    return all(LISTED.match(line) or line.rstrip().endswith(CODE_ENDS) for line in whole_lines.split("\n") if line)


class Fences:
    """Whether the text read so far ends inside a Markdown code fence. Only whole lines count."""

    __slots__ = ("_line", "_marker")

    def __init__(self) -> None:
        self._line = ""
        self._marker = ""

    @property
    def open(self) -> bool:
        return self._marker != ""

    def read(self, text: str) -> None:
        *lines, last = text.split("\n")
        for line in lines:
            if "```" in line or "~~~" in line or self._line:
                self._read_line((self._line + line)[:FENCE_LINE])
            self._line = ""
        self._line = (self._line + last)[:FENCE_LINE]

    def _read_line(self, line: str) -> None:
        fence = FENCE.fullmatch(line.rstrip())
        if fence is None:
            return
        marker, info = fence.groups()
        if not self._marker:
            self._marker = marker if "`" not in info else ""
        elif marker.startswith(self._marker) and not info:
            self._marker = ""


@dataclass(frozen=True, slots=True)
class Run:
    """Text from offset `start` on that equals itself shifted by `period`; at offset `loop_at` it is a loop."""

    period: int
    start: int
    loop_at: int
    pattern: str


class RepeatedText:
    """Watches one reply's text (its reasoning has a watcher of its own)."""

    __slots__ = (
        "_base",
        "_fences",
        "_fences_read",
        "_half",
        "_kept",
        "_limits",
        "_next",
        "_pieces",
        "_probe",
        "_reach",
        "_read",
        "_runs",
        "_seen",
        "_step",
        "_stopped",
    )

    def __init__(self, limits: TextLoopLimits) -> None:
        self._limits = limits
        self._half = limits.chunk_size // 2
        self._step = limits.chunk_size - self._half
        self._reach = min(2 * limits.max_pattern_length - 1, limits.max_history_length)
        self._kept = ""  # the newest text, from offset `_base` on
        self._base = 0
        self._read = 0  # offset up to which everything is decided
        self._pieces: list[str] = []  # what came after `_kept`
        self._seen = 0
        self._probe = self._half  # offset of the next look for runs
        self._next = self._probe  # the next offset at which anything can be decided
        self._runs: list[Run] = []
        self._fences = Fences()
        self._fences_read = 0
        self._stopped = False

    def saw(self, text: str) -> Finding | None:
        """Takes the next piece. Tells of one loop, in the call that completes it, and is silent after it."""
        if self._stopped:
            return None
        self._pieces.append(text)
        self._seen += len(text)
        if self._seen < self._next:
            return None
        fresh = "".join(self._pieces)
        self._pieces.clear()
        for at in range(0, len(fresh), PORTION):
            finding = self._take(fresh[at : at + PORTION])
            if finding is not None:
                self._stopped = True
                self._kept = ""
                return finding
        return None

    def _take(self, fresh: str) -> Finding | None:
        self._kept += fresh
        end = self._base + len(self._kept)
        while True:
            if not self._runs:
                self._skip_unrepeated(end)
            if self._next > end:
                break
            self._read_up_to(self._next)
            for run in self._runs:
                if run.loop_at <= self._read:
                    return Finding(run.pattern, (self._read - run.start) // run.period, self._read)
            self._next = min([self._probe, *(run.loop_at for run in self._runs)])
        surplus = self._read - self._limits.buffer_size - self._base
        if surplus > PORTION:
            self._read_fences(self._read)
            self._kept = self._kept[surplus:]
            self._base += surplus
        return None

    def _skip_unrepeated(self, end: int) -> None:
        """Goes from look to look while the newest half chunk occurs nowhere near before: nearly all of most replies."""
        kept, base, half, step, buffer_size = self._kept, self._base, self._half, self._step, self._limits.buffer_size
        span = min(half + self._reach, buffer_size)
        stop, last = self._probe - base, end - base
        while stop <= last:
            oldest = stop - span
            if kept.rfind(kept[stop - half : stop], oldest if oldest > 0 else 0, stop - 1) >= 0:
                break
            stop += step
        self._read = max(self._read, base + stop - step)
        self._probe = self._next = base + stop

    def _read_up_to(self, offset: int) -> None:
        kept, start, end = self._kept, self._read - self._base, offset - self._base
        self._runs = [run for run in self._runs if kept[start:end] == kept[start - run.period : end - run.period]]
        self._read = offset
        if offset == self._probe:
            self._look_for_runs(end)
            self._probe += self._step

    def _look_for_runs(self, end: int) -> None:
        """Finds the runs that end at `_kept[:end]`, shortest period first.

        A window no shorter than its distance from its last occurrence proves a run of that period, and by the theorem
        of Fine and Wilf no shorter period. A pattern may hold shorter runs (blanks, rulers), so that the look goes on
        with a window that begins just before the longest run known.
        """
        kept, reach = self._kept, self._reach
        oldest = max(0, end - self._limits.buffer_size)
        longest = min((run.start for run in self._runs), default=self._read)
        window = max(self._half, self._read - longest + 1)
        while window <= min(reach, end - oldest):
            newest = end - window
            found = kept.rfind(kept[newest:end], max(oldest, newest - reach), end - 1)
            if found < 0:
                return
            period = newest - found
            if period > window:
                window = max(period, window + window // 4)
                continue
            start = self._add_run(oldest, end, period)
            window = end - start + 1

    def _add_run(self, oldest: int, end: int, period: int) -> int:
        """Notes the run of `period` that ends at `_kept[:end]` and returns where in `_kept` it starts."""
        kept = self._kept
        candidates = range(oldest, end - 2 * period)
        start = oldest + bisect_left(candidates, True, key=lambda i: kept[i : end - period] == kept[i + period : end])
        pattern = kept[start : start + period]
        self._read_fences(self._read)
        loop_at = self._base + start + self._tolerated(pattern)
        self._runs.append(Run(period, self._base + start, loop_at, pattern))
        return start

    def _read_fences(self, offset: int) -> None:
        self._fences.read(self._kept[self._fences_read - self._base : offset - self._base])
        self._fences_read = offset

    def _tolerated(self, pattern: str) -> int:
        """Length at which a run of `pattern` is a loop."""
        limits, period = self._limits, len(pattern)
        times = limits.loop_threshold
        length = max(times * period, (times - 1) * period + limits.chunk_size)
        kind = kind_of(pattern, self._fences.open)
        if kind is Kind.RULER:
            return max(length, limits.buffer_size)
        if kind is Kind.SET_OUT:
            return length * SET_OUT_FACTOR
        return length * LONG_FACTOR if period > limits.max_pattern_length else length
