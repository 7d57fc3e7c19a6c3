from __future__ import annotations

import io
import zipfile
from contextlib import closing
from datetime import datetime

import openpyxl
import pytest

from celeriac.errors import InvalidInput
from workloads.data_sync import csv_reader, xlsx_reader
from workloads.data_sync.reading import open_reader

CHINESE = "訂單編號,商品名稱\n" + "".join(f"{n},這是一個很好的商品名稱數量{n}\n" for n in range(30))
SIMPLIFIED = "订单编号,商品名称\n" + "".join(f"{n},这是一个很好的商品名称数量{n}\n" for n in range(30))


def read(content: bytes, size: int = 1000, start: int = 0):
    """All rows by line, and the rejected (line, column, reason)."""
    rows: dict[int, list[str]] = {}
    rejected: dict[int, tuple[str | None, str]] = {}
    with closing(open_reader(io.BytesIO(content))) as reader:
        for block in reader.blocks(start, lambda: size):
            rows.update(zip(block.lines, block.rows, strict=True))
            rejected.update({each.line: (each.column, each.reason) for each in block.rejections})
    return rows, rejected


def columns(content: bytes) -> list[str]:
    with closing(open_reader(io.BytesIO(content))) as reader:
        return reader.columns


def workbook(rows: list[list[object]]) -> bytes:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (CHINESE, "utf-8"),
        (CHINESE, "utf-8-sig"),
        (CHINESE, "utf-16"),
        (CHINESE, "utf-16-be"),
        (CHINESE, "utf-32"),
        (CHINESE, "big5"),
        (SIMPLIFIED, "gb18030"),
    ],
)
def test_every_common_encoding_is_read(text, encoding):
    content = text.encode(encoding)
    rows, rejected = read(content)
    assert columns(content) == text.splitlines()[0].split(",")
    assert [",".join(row) for row in rows.values()] == text.splitlines()[1:]
    assert not rejected


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_every_delimiter_is_found(delimiter):
    content = f"a{delimiter}b\n1{delimiter}x, y\n2{delimiter}z\n".replace("x, y", '"x, y; z"').encode()
    assert columns(content) == ["a", "b"]
    assert read(content)[0] == {2: ["1", "x, y; z"], 3: ["2", "z"]}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_line_end_is_understood_and_blank_lines_are_skipped(end):
    rows, rejected = read(end.join(["", "a,b", "1,2", "", "3,4"]).encode())
    assert list(rows.values()) == [["1", "2"], ["3", "4"]]
    assert list(rows) == [3, 5]
    assert not rejected


def test_a_value_may_span_lines():
    rows, rejected = read(b'a,b\n1,"x\ny\n""z"""\n2,c\n')
    assert rows == {2: ["1", 'x\ny\n"z"'], 5: ["2", "c"]}
    assert not rejected


def test_a_value_that_spans_blocks_is_read_whole():
    content = b'a,b\n1,"x\ny\nz"\n2,c\n'
    for size in range(1, 6):
        assert read(content, size) == read(content)


def test_bytes_of_another_encoding_reject_their_row_only():
    content = CHINESE.encode() + b"30,caf\xe9\n31,\xe5\x95\x86\n"
    rows, rejected = read(content)
    assert rejected == {32: ("商品名稱", "holds bytes that are no utf-8 text")}
    assert rows[33] == ["31", "商"]
    assert len(rows) == 31


def test_one_broken_line_does_not_make_a_small_file_another_encoding():
    rows, rejected = read("id,name\n1,süß\n".encode() + b"2,\xff\xfe\n")
    assert rows == {2: ["1", "süß"]}
    assert list(rejected) == [3]


def test_a_broken_pair_in_utf16_rejects_its_row_only():
    content = "a,b\n1,x\n2,".encode("utf-16") + b"\x00\xdc" + "\n3,z\n".encode("utf-16-le")
    rows, rejected = read(content)
    assert rows == {2: ["1", "x"], 4: ["3", "z"]}
    assert list(rejected) == [3]


def test_a_nul_rejects_its_row_only():
    rows, rejected = read(b"a,b\n1,x\0\n2,y\n")
    assert rows == {3: ["2", "y"]}
    assert rejected == {2: ("b", "holds a NUL character")}


def test_wrong_column_counts_are_rejected():
    rows, rejected = read(b"a,b\n1\n2,3\n4,5,6\n")
    assert rows == {3: ["2", "3"]}
    assert rejected == {2: (None, "1 columns instead of 2"), 4: (None, "3 columns instead of 2")}


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_an_unclosed_quote_costs_one_line(size):
    lines = [f"{n},v{n}" for n in range(2, 12)]
    lines[4] = '6,"open'
    rows, rejected = read(("a,b\n" + "\n".join(lines) + "\n").encode(), size)
    assert list(rejected) == [6]
    assert [row[0] for row in rows.values()] == ["2", "3", "4", "5", "7", "8", "9", "10", "11"]


def test_an_unclosed_quote_before_a_quoted_value_costs_one_line():
    rows, rejected = read(b'a,b\n1,"open\n2,"closed"\n3,c\n')
    assert rows == {3: ["2", "closed"], 4: ["3", "c"]}
    assert list(rejected) == [2]


def test_an_unclosed_quote_in_a_long_file_is_found_in_bounded_steps():
    content = b'a,b\n1,"open\n' + b"".join(b"%d,value\n" % n for n in range(100_000))
    rows, rejected = read(content)
    assert len(rows) == 100_000
    assert list(rejected) == [2]


def test_a_value_beyond_the_limit_rejects_its_row_only():
    rows, rejected = read(b"a,b\n1," + b"x" * 200_000 + b"\n2,y\n")
    assert rows == {3: ["2", "y"]}
    assert list(rejected) == [2]


def test_a_line_without_end_is_read_in_bounded_memory(monkeypatch):
    monkeypatch.setattr(csv_reader, "LINE_CHARS", 1000)
    rows, rejected = read(b"a,b\n1," + b"x" * 100_000 + b"\n2,y\n")
    assert rows == {3: ["2", "y"]}
    assert list(rejected) == [2]


def test_reading_goes_on_after_any_block_as_if_it_had_not_stopped():
    content = b'a,b\n1,"x\ny"\n2,"open\n3,c,d\n\n4,e\n5,"f"\n6,\0\n7,g\n'
    whole = read(content)
    for size in range(1, 10):
        with closing(open_reader(io.BytesIO(content))) as reader:
            ends = [block.end for block in reader.blocks(0, lambda size=size: size)]
        for end in ends:
            rows, rejected = read(content, size, end)
            assert rows == {line: row for line, row in whole[0].items() if line > end}
            assert rejected == {line: why for line, why in whole[1].items() if line > end}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (bytes.fromhex("d0cf11e0a1b11ae1") + b"x" * 100, "legacy .xls"),
        (b"PK\x03\x04 this is no archive", "cannot be read"),
        (b"a,,c\n1,2,3\n", "column 2 of the header has no name"),
        (b"a,b,a\n1,2,3\n", "repeats the name"),
        (b"1,2,3\n4,5,6\n", "no header"),
        (b"a,\0\n1,2\n", "header holds bytes"),
        (b'a,"b\n1,2\n', "header line cannot be read"),
    ],
)
def test_a_file_without_a_usable_header_is_refused_with_the_reason(content, words):
    with pytest.raises(InvalidInput, match=words):
        columns(content)


def test_a_workbook_is_read_as_texts():
    rows, rejected = read(
        workbook(
            [
                ["a", "b"],
                [1, 2.5],
                [3.0, None],
                [None, None],
                [datetime.fromisoformat("2024-05-01 13:45"), True],
                [1, 2, 3],
            ]
        )
    )
    assert rows == {2: ["1", "2.5"], 3: ["3", ""], 5: ["2024-05-01 13:45:00", "TRUE"]}
    assert rejected == {6: (None, "3 columns instead of 2")}


def test_a_workbook_is_read_on_from_a_row():
    content = workbook([["a"], *([str(n)] for n in range(2, 10))])
    assert list(read(content, size=2, start=5)[0]) == [6, 7, 8, 9]


def test_a_zip_that_is_no_workbook_is_refused():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(InvalidInput, match="no XLSX workbook"):
        columns(content.getvalue())


def test_a_workbook_that_unpacks_to_too_much_is_refused(monkeypatch):
    monkeypatch.setattr(xlsx_reader, "WORKBOOK_BYTES", 1000)
    with pytest.raises(InvalidInput, match="unpacks to more than"):
        columns(workbook([["a"], [1]]))


def test_a_workbook_with_entities_is_refused():
    source, content = zipfile.ZipFile(io.BytesIO(workbook([["a"], [1]]))), io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in source.namelist():
            data = source.read(name)
            if name == "xl/worksheets/sheet1.xml":
                data = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e "e">]>' + data
            archive.writestr(name, data)
    with pytest.raises(InvalidInput, match="cannot be read"):
        columns(content.getvalue())
