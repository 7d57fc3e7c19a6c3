"""Shopee order exports: one row a product of an order.

Headers are recognised in English, in Traditional Chinese and by the API's names; case, spaces and punctuation do not
matter. Only the order id is required. Columns that are not recognised are kept as text in `extra`.

Times without an offset are those of the seller centre, UTC+8: Asia/Singapore, which Taiwan, Malaysia and the
Philippines share. Exports of Thailand, Vietnam (UTC+7) and Brazil (UTC-3) are off by the difference.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import compress
from typing import cast

import orjson
from sqlalchemy import Table

from celeriac.errors import InvalidInput
from workloads.data_sync.keys import make_keys, without_unusable_keys
from workloads.data_sync.models import ShopeeOrderItem
from workloads.data_sync.plan import Target
from workloads.data_sync.records import Block, Prepared, Rejection
from workloads.data_sync.values import parse_count, parse_moment, parse_money, parse_text

#: Column of the table: how its values are read, and the headers that mean it.
_FIELDS: dict[str, tuple[Callable[[str], str | None], str]] = {
    "order_sn": (parse_text, "order_sn|order_id|Order ID|Order No|訂單編號"),
    "status": (parse_text, "order_status|Order Status|訂單狀態"),
    "cancel_reason": (parse_text, "cancel_reason|Cancel reason|取消原因|不成立原因"),
    "order_created_at": (
        parse_moment,
        "create_time|Order Creation Date|Order Creation Time|訂單成立日期|訂單成立時間|訂單建立時間",
    ),
    "paid_at": (parse_moment, "pay_time|Order Paid Time|Payment Time|買家付款時間|付款時間"),
    "shipped_at": (parse_moment, "ship_time|Ship Time|實際出貨時間|出貨時間"),
    "completed_at": (parse_moment, "complete_time|Order Complete Time|訂單完成時間"),
    "ship_by": (parse_moment, "ship_by_date|Estimated Ship Out Date|最晚出貨日期|預計出貨日期"),
    "parent_sku": (parse_text, "item_sku|Parent SKU Reference No.|主商品貨號"),
    "sku": (parse_text, "model_sku|sku|SKU Reference No.|商品選項貨號|商品貨號"),
    "product_name": (parse_text, "item_name|product_name|Product Name|商品名稱"),
    "variation_name": (parse_text, "model_name|variation_name|Variation Name|商品選項名稱"),
    "quantity": (parse_count, "model_quantity_purchased|quantity|數量"),
    "returned_quantity": (parse_count, "returned_quantity|Returned quantity|退貨數量"),
    "original_price": (parse_money, "model_original_price|original_price|Original Price|商品原價"),
    "deal_price": (parse_money, "model_discounted_price|deal_price|Deal Price|商品活動價格"),
    "product_subtotal": (parse_money, "product_subtotal|Product Subtotal|商品總價"),
    "shipping_fee": (
        parse_money,
        "buyer_paid_shipping_fee|shipping_fee|Buyer Paid Shipping Fee|買家支付運費",
    ),
    "total_amount": (parse_money, "total_amount|Grand Total|Order Amount|買家總支付金額|訂單總金額"),
    "payment_method": (parse_text, "payment_method|Payment Method|付款方式"),
    "shipping_option": (parse_text, "shipping_carrier|shipping_option|Shipping Option|寄送方式"),
    "tracking_number": (parse_text, "tracking_no|tracking_number|Tracking Number*|包裹查詢號碼"),
    "buyer_username": (parse_text, "buyer_username|Username (Buyer)|買家帳號"),
    "buyer_message": (parse_text, "message_to_seller|Remark from buyer|買家備註"),
    "note": (parse_text, "note|備註"),
}

_NATURAL_KEY = ("order_sn", "sku", "product_name", "variation_name")


def _normalised(header: str) -> str:
    return re.sub(r"[\W_]+", "", header).casefold()


_FIELD_OF = {_normalised(header): field for field, (_, headers) in _FIELDS.items() for header in headers.split("|")}


class ShopeePlan:
    """A Shopee order export.

    Args:
        columns: the names in the header.
        key_columns: the columns that identify a row instead of order, SKU, product and variation.

    Raises:
        InvalidInput: there is no column with the order id.
    """

    def __init__(self, columns: Sequence[str], key_columns: Sequence[str]) -> None:
        self._columns = list(columns)
        found: dict[str, int] = {}
        for index, header in enumerate(columns):
            if field := _FIELD_OF.get(_normalised(header)):
                found.setdefault(field, index)
        if "order_sn" not in found:
            reason = f"no order id column (Order ID, order_sn, 訂單編號); the file has {', '.join(columns)[:1000]}"
            raise InvalidInput("file", "shopee", reason)
        self._order_index = found["order_sn"]
        self._parsers = [(field, found.get(field), parse) for field, (parse, _) in _FIELDS.items()]
        self._extra = sorted((header, at) for at, header in enumerate(columns) if at not in found.values())
        natural = [self._columns[found[field]] for field in _NATURAL_KEY if field in found]
        names = list(key_columns) or natural
        self._key_indexes = [self._columns.index(name) for name in names]
        self.key_column = ", ".join(names)
        self.target = Target(cast("Table", ShopeeOrderItem.__table__), (*_FIELDS, "extra"))

    def prepare(self, block: Block) -> Prepared:
        """Read each value as what its column means; a record with one that cannot be read is refused."""
        rejections = list(block.rejections)
        rows = [[value.strip() for value in row] for row in block.rows]
        refused: dict[int, Rejection] = {}
        for at, (row, line) in enumerate(zip(rows, block.lines, strict=True)):
            if not row[self._order_index]:
                refused[at] = Rejection(line, self._columns[self._order_index], "", "the order id is empty")
        columns: list[list[str | None]] = [
            self._parsed(rows, block.lines, index, parse, refused) if index is not None else [None] * len(rows)
            for _, index, parse in self._parsers
        ]
        columns.append(
            [str(orjson.dumps({header: row[at] for header, at in self._extra if row[at]}), "utf-8") for row in rows]
        )
        keys, lines = make_keys(rows, self._key_indexes), block.lines
        if refused:
            usable = [at not in refused for at in range(len(rows))]
            keys, lines = list(compress(keys, usable)), list(compress(lines, usable))
            columns = [list(compress(values, usable)) for values in columns]
            rejections.extend(refused.values())
        return without_unusable_keys(Prepared(keys, lines, columns, rejections), self.key_column)

    def _parsed(
        self,
        rows: Sequence[Sequence[str]],
        lines: Sequence[int],
        index: int,
        parse: Callable[[str], str | None],
        refused: dict[int, Rejection],
    ) -> list[str | None]:
        values: list[str | None] = []
        for at, row in enumerate(rows):
            try:
                values.append(parse(row[index]))
            except ValueError as error:
                values.append(None)
                refused.setdefault(at, Rejection(lines[at], self._columns[index], row[index], str(error)))
        return values
