from __future__ import annotations

import json

import pytest

from celeriac.errors import InvalidInput
from workloads.data_sync.keys import KEY_CHARS
from workloads.data_sync.platforms import plan_for
from workloads.data_sync.records import Block
from workloads.data_sync.values import parse_count, parse_moment, parse_money


def prepare(platform, columns, rows, keys=None):
    text = "\n".join(value for row in rows for value in row)
    return plan_for(platform, columns, keys).prepare(Block(rows, range(2, 2 + len(rows)), text, [], len(rows) + 1))


def shopee(columns, rows, keys=None):
    plan = plan_for("shopee", columns, keys)
    prepared = prepare("shopee", columns, rows, keys)
    items = [dict(zip(plan.target.data_columns, item, strict=True)) for item in zip(*prepared.columns, strict=True)]
    return prepared, items


def test_generic_values_stay_text_whatever_the_order_of_the_columns():
    one = prepare("generic", ["b", "a"], [["007", ""]])
    other = prepare("generic", ["a", "b"], [["", "007"]])
    assert one.columns == other.columns == [['{"a":"","b":"007"}']]
    assert one.keys == other.keys


def test_datasets_differ_by_columns_and_by_keys():
    datasets = {
        plan_for("generic", columns, keys).target.constants["dataset"]
        for columns, keys in [(["a", "b"], None), (["a", "c"], None), (["a", "b"], ["a"]), (["b", "a"], ["a"])]
    }
    assert len(datasets) == 3


def test_an_empty_key_is_rejected():
    prepared = prepare("generic", ["a", "b"], [["", "1"], ["  ", "2"], ["x", "3"]], ["a"])
    assert prepared.keys == ["x"]
    assert [(each.line, each.column, each.reason) for each in prepared.rejections] == [
        (2, "a", "the key is empty"),
        (3, "a", "the key is empty"),
    ]


def test_the_first_row_with_a_key_wins():
    prepared = prepare("generic", ["a", "b"], [["x", "1"], ["y", "2"], ["x", "3"]], ["a"])
    assert list(prepared.lines) == [2, 3]
    assert [(each.line, each.value, each.reason) for each in prepared.rejections] == [(4, "x", "same key as line 2")]


def test_long_and_ambiguous_keys_are_digests_that_stay_apart():
    rows = [["a\x1f", "b"], ["a", "\x1fb"], ["k" * 500, "b"], ["k" * 500, "c"], ["plain", "key"]]
    prepared = prepare("generic", ["x", "y"], rows)
    assert len(set(prepared.keys)) == 5
    assert prepared.keys[4] == "plain\x1fkey"
    assert all(len(key) <= KEY_CHARS for key in prepared.keys)


@pytest.mark.parametrize("value", ["1e400", "-1E+400", " 9.9e999 ", ".1e310"])
def test_a_number_that_no_database_holds_is_rejected(value):
    prepared = prepare("generic", ["a", "b"], [["1", value], ["2", "1e3"], ["3", "N1e400x"], ["4", "1e-400"]], ["a"])
    assert prepared.keys == ["2", "3", "4"]
    assert [(each.line, each.column, each.value, each.reason) for each in prepared.rejections] == [
        (2, "b", value, "number out of range")
    ]


def test_an_unknown_platform_is_refused():
    with pytest.raises(InvalidInput, match="use one of generic, shopee"):
        plan_for("amazon", ["a"], None)


@pytest.mark.parametrize("platform", ["generic", "shopee"])
def test_an_unknown_key_column_is_refused_with_those_that_there_are(platform):
    with pytest.raises(InvalidInput, match="the file has order_sn, b"):
        plan_for(platform, ["order_sn", "b"], ["c"])


@pytest.mark.parametrize("header", ["order_sn", "order_id", "Order ID", "ORDER-ID", "訂單編號"])
def test_the_order_id_is_known_by_many_names(header):
    _, items = shopee([header], [["2405"]])
    assert items[0]["order_sn"] == "2405"


def test_an_export_without_order_id_is_refused():
    with pytest.raises(InvalidInput, match="no order id column"):
        plan_for("shopee", ["Product Name"], None)


def test_an_order_item_is_typed_and_keeps_what_is_unknown():
    columns = ["Order ID", "Order Creation Date", "Deal Price", "Quantity", "Product Name", "Weight"]
    prepared, items = shopee(columns, [["X1", "2024-05-01 13:45", "NT$1,234.50", "3", "Pot", "5kg"]])
    assert prepared.keys == ["X1\x1fPot"]
    item = items[0]
    assert item["order_created_at"] == "2024-05-01 05:45:00.000000"
    assert (item["deal_price"], item["quantity"], item["sku"]) == ("1234.5000", "3", None)
    assert json.loads(item["extra"]) == {"Weight": "5kg"}


def test_named_key_columns_replace_the_natural_key():
    prepared, _ = shopee(["Order ID", "SKU", "Line"], [["X1", "S", "1"], ["X1", "S", "2"]], ["Order ID", "Line"])
    assert prepared.keys == ["X1\x1f1", "X1\x1f2"]


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("Order ID", " ", "the order id is empty"),
        ("Quantity", "-1", "negative"),
        ("Quantity", "1.5", "not a whole number"),
        ("Quantity", "99999999999", "number out of range"),
        ("Deal Price", "nan", "not an amount"),
        ("Deal Price", "inf", "not an amount"),
        ("Deal Price", "1e400", "number out of range"),
        ("Deal Price", "-5", "negative"),
        ("Deal Price", "1.23456", "more than four decimals"),
        ("Ship Time", "2024-13-01", "not a date such as 2024-05-31 13:45"),
        ("Ship Time", "soon", "not a date such as 2024-05-31 13:45"),
    ],
)
def test_a_bad_value_is_rejected_with_its_column_and_reason(column, value, reason):
    columns = ["Order ID", "Quantity", "Deal Price", "Ship Time"]
    row = ["X1", "1", "1", "2024-05-01"]
    row[columns.index(column)] = value
    prepared, items = shopee(columns, [row, ["X2", "1", "1", ""]])
    assert [(each.line, each.column, each.reason) for each in prepared.rejections] == [(2, column, reason)]
    assert [item["order_sn"] for item in items] == ["X2"]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-05-01", "2024-04-30 16:00:00.000000"),
        ("2024/5/1 9:05", "2024-05-01 01:05:00.000000"),
        ("2024-05-01 09:05:06.5", "2024-05-01 01:05:06.500000"),
        ("2024-05-01T09:05:06Z", "2024-05-01 09:05:06.000000"),
        ("1714554306", "2024-05-01 09:05:06.000000"),
        ("-", None),
    ],
)
def test_moments_are_read_in_the_local_zone_and_kept_in_utc(text, moment):
    assert parse_moment(text) == moment


@pytest.mark.parametrize("value", ["0" * 5000, "1e9999999999999999999", "1,23", "1_000", "\uff11\uff12"])
def test_no_odd_number_passes_or_breaks_the_parser(value):
    with pytest.raises(ValueError, match=r"not a|out of range"):
        parse_money(value)
    with pytest.raises(ValueError, match=r"not a|out of range"):
        parse_count(value)
