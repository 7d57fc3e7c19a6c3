"""What an event says, what a client reads of a stream, and which questions are understood."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.client.event_stream import Message, read
from celeriac.errors import InvalidInput
from celeriac.events import TaskEvent, check_id
from celeriac.events.event import place
from celeriac.results import TaskFilter, TaskState

PARTS = st.integers(0, 2**64 - 1)
#: Any text that JSON may hold, with the characters at which some clients wrongly end a line.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\x0b\x0c\x1c\x85\u2028\u2029\r\n:"))


@given(PARTS, PARTS, PARTS, PARTS)
def test_ids_are_ordered_by_their_numbers(ms: int, number: int, other_ms: int, other: int):
    one, two = check_id(f"{ms}-{number}"), check_id(f"{other_ms}-{other}")
    assert (place(one) < place(two)) == ((ms, number) < (other_ms, other))


@pytest.mark.parametrize(
    "text", ["", "1", "1-", "-1", "1-1-1", "a-1", "1-1 ", " 1-1", "+1-1", "1_0-1", "\u0661-1", f"{2**64}-0", "1" * 30]
)
def test_what_is_no_id_is_refused(text: str):
    with pytest.raises(InvalidInput, match="Last-Event-ID: give the id of an event as it came"):
        check_id(text)


def test_an_entry_says_what_happened_and_when():
    entry = ("1769860800123-4", ["id", "one", "state", "STARTED", "queue", "email", "name", "mail.send"])
    (event,) = TaskEvent.read([entry])
    assert event == TaskEvent("1769860800123-4", "one", TaskState.STARTED, "email", "mail.send")
    assert event.at == "2026-01-31T12:00:00.123+00:00"


def test_what_another_version_adds_is_passed_over():
    more = ("1-0", ["id", "one", "state", "SUCCESS", "queue", "q", "name", "n", "worker", "w"])
    unknown = ("2-0", ["id", "one", "state", "PAUSED", "queue", "q", "name", "n"])
    foreign = ("3-0", ["anything", "else"])
    assert [event.id for event in TaskEvent.read([more, unknown, foreign])] == ["1-0"]


@given(*[st.none() | st.sampled_from("ab")] * 2, st.sets(st.sampled_from(list(TaskState))))
def test_a_filter_lets_through_what_has_all_that_it_names(queue: str | None, name: str | None, states: set[TaskState]):
    event = TaskEvent("1-0", "one", TaskState.SUCCESS, "a", "b")
    expected = queue in {None, "a"} and name in {None, "b"} and TaskState.SUCCESS in states
    assert event.matches(TaskFilter(queue=queue, name=name, states=states)) == expected


def pieces(body: bytes, cuts: list[int]) -> Iterator[bytes]:
    """The body, cut at some places."""
    places = sorted({cut % (len(body) + 1) for cut in cuts})
    for start, end in zip([0, *places], [*places, len(body)], strict=True):
        yield body[start:end]


@given(st.lists(st.tuples(TEXTS, st.integers(0, 99))), st.lists(st.integers(0, 9999)))
def test_what_was_sent_is_read_however_the_network_cuts_it(sent: list[tuple[str, int]], cuts: list[int]):
    body = "".join(f":\n\nid: 7-{number}\ndata: {json.dumps(text, ensure_ascii=False)}\n\n" for text, number in sent)
    messages = [message for message in read(pieces(body.encode(), cuts)) if message.data is not None]
    assert [(json.loads(str(message.data)), message.last_id) for message in messages] == [
        (text, f"7-{number}") for text, number in sent
    ]


@given(st.binary(), st.lists(st.integers(0, 9999)))
def test_whatever_comes_is_read_alike_in_pieces_and_whole(body: bytes, cuts: list[int]):
    assert list(read(pieces(body, cuts))) == list(read([body]))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_messages_are_read_as_the_standard_says(end: str):
    lines = ["\ufeff: a comment", "data", "data:  two", "event: gap", "retry: 1", "other", "id: 5", "", "id: bad\0", ""]
    lines += ["data: cut off"]
    assert list(read([end.join(lines).encode()])) == [Message("gap", "\n two", "5"), Message("message", None, "5")]


def test_a_carriage_return_ends_a_line_too():
    assert list(read([b"data: 1\r", b"data: 2\r\rdata: 3"])) == [Message("message", "1\n2", "")]
