"""charts/celeriac/README.md and its table of values: tools/chart_readme.py."""

from __future__ import annotations

import pytest
import yaml

from tests.chart.rendering import CHART
from tools.chart_readme import documented_values, readme, values_table

VALUES = (CHART / "values.yaml").read_text()


def test_the_table_of_values_is_current():
    page = (CHART / "README.md").read_text()
    assert page == readme(page, VALUES), "run python -m tools.chart_readme"


def test_every_value_is_documented():
    documented = {path for path, _ in documented_values(VALUES)}

    def undocumented(values, path):
        for key, value in values.items():
            here = f"{path}{key}"
            if here not in documented:
                yield from undocumented(value, f"{here}.") if isinstance(value, dict) and value else [here]

    assert list(undocumented(yaml.safe_load(VALUES), "")) == []


def test_a_comment_belongs_to_the_key_after_it():
    text = "# A note.\n\n# -- First\n# goes on.\na: 1\nb:\n  # -- Second | third.\n  c: {d: x}\n"
    assert list(documented_values(text)) == [("a", "First goes on."), ("b.c", "Second | third.")]
    assert values_table(text).splitlines()[2:] == [
        "| `a` | `1` | First goes on. |",
        "",
        "### `b`",
        "",
        "| value | default | what |",
        "| --- | --- | --- |",
        '| `b.c` | `{"d": "x"}` | Second \\| third. |',
    ]


def test_a_readme_without_its_marks_is_not_touched():
    with pytest.raises(ValueError, match="marks"):
        readme("# Chart\n", VALUES)
