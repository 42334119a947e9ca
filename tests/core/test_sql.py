"""Prevents a statement that includes what is not there, or that is handed to the database with a part missing."""

import re

import pytest

from pipeline.database.sql import FOLDER, statement

NAMES = [str(file.relative_to(FOLDER).with_suffix("")) for file in sorted(FOLDER.rglob("*.sql"))]
PARTS = sorted(name for name in NAMES if name.startswith("parts/"))


def included(name: str) -> list[str]:
    """What a statement includes, with what that includes."""
    found: list[str] = re.findall(r"-- include: (\S+)\n", (FOLDER / f"{name}.sql").read_text())
    return [*found, *(one for part in found for one in included(part))]


@pytest.mark.parametrize("name", NAMES)
def test_what_a_statement_includes_stands_in_it(name: str) -> None:
    text = statement(name)
    assert "--" not in text.replace("'--'", "")  # nor a comment: a % in it would be taken for a parameter
    for part in PARTS:
        assert text.count(statement(part)) == included(name).count(part) + (name == part)


def test_every_part_is_included_by_more_than_one_place() -> None:
    texts = "".join((FOLDER / f"{name}.sql").read_text() for name in NAMES)
    assert {part: texts.count(f"-- include: {part}\n") for part in PARTS if texts.count(part) < 2} == {}


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("000")])
def test_no_statement_depends_on_the_sessions_time_zone(name: str) -> None:
    """Prevents a completeness of 100 % with an hour missing, as seen by a session in India: its hours begin at half
    past, and its days are other ones."""
    text = statement(name)
    truncated = re.findall(r"date_trunc\('(?:hour|day|week|month|year)', .*", text)
    assert [one for one in truncated if ", 'UTC')" not in one] == []
    days = re.findall(r".*::date\b(?!\[)", text)
    assert [one for one in days if "AT TIME ZONE 'UTC')::date" not in one] == []
