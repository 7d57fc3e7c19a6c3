"""What becomes of rows that meet others: the counts, the provenance and the moments."""

from __future__ import annotations

from decimal import Decimal

from workloads.data_sync.models import GenericRow, RejectedRow, ShopeeOrderItem

COUNTS = ("inserted", "updated", "unchanged", "rejected")


def counts(result):
    return tuple(result[name] for name in COUNTS)


def test_new_changed_and_equal_rows_are_told_apart(bench):
    assert counts(bench.sync(bench.upload(b"id,v\n1,a\n2,b\n", keys=["id"]))) == (2, 0, 0, 0)
    before = {row["key"]: row for row in bench.all(GenericRow)}
    newer = bench.upload(b"id,v\n2,B\n1,a\n3,c\n", keys=["id"])
    assert counts(bench.sync(newer, "newer")) == (1, 1, 1, 0)
    after = {row["key"]: row for row in bench.all(GenericRow)}
    assert after["2"]["data"] == {"id": "2", "v": "B"}
    assert after["2"]["created_at"] == before["2"]["created_at"]
    assert after["2"]["updated_at"] > before["2"]["updated_at"]
    assert after["1"]["updated_at"] == before["1"]["updated_at"]
    assert [(row["file_id"], row["line"]) for row in after.values()] == [(newer.id, 3), (newer.id, 2), (newer.id, 4)]


def test_syncing_a_file_again_changes_nothing(bench, small_batches):
    content = b"id,v\n" + b"".join(b"%d,v\n" % (n % 8) for n in range(12)) + b"bad\n"
    file = bench.upload(content, keys=["id"])
    assert counts(bench.sync(file, "first")) == (8, 0, 0, 5)
    rows, rejected = bench.all(GenericRow), bench.all(RejectedRow)
    assert counts(bench.sync(file, "second")) == (0, 0, 8, 5)
    assert bench.all(GenericRow) == rows
    assert bench.all(RejectedRow) == rejected


def test_the_first_row_of_a_file_wins_across_batches(bench, small_batches):
    file = bench.upload(b"id,v\n1,a\n2,b\n3,c\n4,d\n1,later\n5,e\n", keys=["id"])
    result = bench.sync(file)
    assert counts(result) == (5, 0, 0, 1)
    assert result["errors"] == [{"line": 6, "column": "id", "value": "1", "reason": "same key as line 2"}]
    assert bench.all(GenericRow)[0]["data"] == {"id": "1", "v": "a"}


def test_unrelated_files_with_the_same_keys_stay_apart(bench):
    bench.sync(bench.upload(b"id,v\n1,a\n", keys=["id"]), "one")
    assert counts(bench.sync(bench.upload(b"id,w\n1,a\n", keys=["id"]), "two")) == (1, 0, 0, 0)
    assert len(bench.all(GenericRow)) == 2


def test_every_character_survives(bench):
    value = 'tab\t back\\slash \\N \\. \r\n quote " 商品 😀 \x01\x1f'
    content = 'id,v\n1,"{}"\n'.format(value.replace('"', '""')).encode()
    bench.sync(bench.upload(content, keys=["v"]))
    row = bench.all(GenericRow)[0]
    assert row["data"] == {"id": "1", "v": value}
    assert row["key"] == value


def test_order_items_are_stored_with_their_types(bench):
    content = "訂單編號,訂單成立日期,商品活動價格,數量,備註\nX1,2024-05-01 13:45,10.5,2,\nX2,-,0.1,,a\\b\n".encode()
    file = bench.upload(content, "shopee")
    assert counts(bench.sync(file)) == (2, 0, 0, 0)
    first, second = bench.all(ShopeeOrderItem)
    assert first["order_created_at"].isoformat() == "2024-05-01T05:45:00+00:00"
    assert (first["deal_price"], first["quantity"], first["note"]) == (Decimal("10.5"), 2, None)
    assert (second["deal_price"], second["order_created_at"], second["note"]) == (Decimal("0.1"), None, "a\\b")
    newer = bench.upload(content.replace(b"10.5", b"10.50").replace(b"0.1,", b"0.2,"), "shopee")
    assert counts(bench.sync(newer, "newer")) == (0, 1, 1, 0)
