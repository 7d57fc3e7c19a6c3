"""What the benchmarks take a disk to hold after a power cut."""

from __future__ import annotations

from benchmarks.power_cut import Kept, replay

FILE = ["C 1 data", "B 9 1 100", "E 9"]


def test_a_file_has_the_length_it_had_when_its_last_sync_began():
    assert replay([*FILE, "B 9 1 250", "E 9", "B 9 1 400"]) == {"data": Kept("1", 250)}


def test_a_file_that_nothing_synced_is_not_there():
    assert replay(["C 1 data"]) == {}


def test_a_name_that_was_not_synced_is_still_that_of_the_file_before():
    replaced = [*FILE, "C 2 new", "B 9 2 70", "E 9", "R new data"]
    assert replay(replaced) == {"data": Kept("1", 100), "new": Kept("2", 70)}
    assert replay([*replaced, "B 9 2 80", "E 9"]) == {"data": Kept("2", 80)}


def test_a_name_given_while_a_sync_runs_is_not_part_of_it():
    assert replay([*FILE, "B 9 1 200", "U data", "E 9"]) == {"data": Kept("1", 200)}


def test_a_sync_that_ends_late_takes_nothing_back():
    assert replay([*FILE, "B 8 1 200", "C 2 more", "B 9 1 300", "E 9", "E 8"]) == {
        "data": Kept("1", 300),
        "more": Kept("2", 0),
    }
