"""docs/families.md lists the entries of the family table."""

import re
from pathlib import Path

from core.diffusers_engine.families import FAMILIES

DOCUMENT = (Path(__file__).resolve().parent.parent / "docs" / "families.md").read_text()
SERVED, _, REST = DOCUMENT.partition("## Supported classes")[2].partition("### Classes without an entry")
NOT_SERVED = REST.partition("### Classes that are not served")[2].partition("\n## ")[0]


def classes_in(rows: str) -> set[str]:
    """Return the names of classes in the first column of the tables in `rows`."""
    first_columns = (line.split("|")[1] for line in rows.splitlines() if line.startswith("|"))
    return {name for column in first_columns for name in re.findall(r"`(\w+Pipeline)`(?! with)", column)}


def test_table_contains_every_class_that_is_not_built_from_another_one() -> None:
    related = {name for family in FAMILIES.values() for name in family.related}
    listed = classes_in(SERVED)
    assert set(FAMILIES) - related <= listed <= set(FAMILIES)


def test_number_of_classes_is_that_of_the_family_table() -> None:
    (number,) = re.findall(r"the table of entries has (\d+) classes", SERVED)
    assert int(number) == len(FAMILIES)


def test_classes_that_are_not_served_have_no_entry() -> None:
    assert classes_in(NOT_SERVED)
    assert not classes_in(NOT_SERVED) & set(FAMILIES)
