"""`python -m pipeline.duckdb` (`scripts/duckdb [--demo]`): DuckDB with the archive attached.

Views `quotes`, `trades` and `exchange_candles` are the archive's files, `instruments` and `archived` the database's
tables; `lake` is the catalog and `db` the whole database, both read-only. Rows that are not archived yet are in
`db.quotes` and so on, where DuckDB makes DOUBLE of every decimal; `pipeline.read` reads both.

    from pipeline.duckdb import connect
    connect().sql("SELECT count(*) FROM quotes").show()
"""

from __future__ import annotations

import csv
import importlib.util
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import duckdb

from pipeline.archive import catalog
from pipeline.archive.layout import DECIMALS, LAYOUTS
from pipeline.archive.open import need_ledger
from pipeline.core.errors import WrongUse
from pipeline.core.runtime import program
from pipeline.core.settings import ArchiveSettings, DatabaseSettings, load
from pipeline.core.text import redact
from pipeline.database.connection import connect as connect_database
from pipeline.database.connection import with_options

EXTENSIONS = {"postgres": "postgres_scanner", "ducklake": "ducklake", "httpfs": "httpfs"}
"""Package `duckdb_extension_<key>` -> name under which DuckDB knows the extension, which its file has to have."""
# A query keeps a transaction of the catalog open; the database's own bound is a minute.
_SESSION = "-c idle_in_transaction_session_timeout=1h -c default_transaction_read_only=on -c timezone=UTC"
_ROWS = 60  # shown on a terminal
_DECIMAL = f"DECIMAL(38,{DECIMALS})"


def connect() -> Any:
    """Return a `duckdb.DuckDBPyConnection`. Raises `WrongUse` without an archive, `Unavailable` without a database."""
    settings = load(DatabaseSettings)
    with connect_database(settings, "duckdb", read_only=True) as conn:
        need_ledger(conn)
        if catalog.data_path(conn) is None:
            raise WrongUse(
                "the archive is not set up yet: python -m consumers.archive --once does it, and archives what is due."
            )
    made: Any = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    made.execute("SET TimeZone = 'UTC'")
    archive = load(ArchiveSettings)
    in_bucket = archive.place.startswith("s3://")
    _load_extensions(made, [name for name in EXTENSIONS if in_bucket or name != "httpfs"])
    if in_bucket:
        _set_keys(made, archive)
    address = with_options(settings.conninfo, _SESSION).replace("'", "''")
    try:
        made.execute(f"ATTACH 'ducklake:postgres:{address}' AS lake (METADATA_SCHEMA 'lake', READ_ONLY)")
        made.execute(f"ATTACH '{address}' AS db (TYPE postgres, READ_ONLY)")
        for kind in LAYOUTS:
            made.execute(
                f"CREATE VIEW {kind} AS FROM lake.{kind} a JOIN db.instruments i USING (venue, product_id)"
                " SELECT i.instrument_id, i.asset_class, a.*"
            )
        for table in ("instruments", "archived"):
            made.execute(f"CREATE VIEW {table} AS FROM db.{table}")
    except duckdb.Error as error:
        raise WrongUse(f"DuckDB cannot open the catalog: {_sentence(error)}") from None
    return made


def _load_extensions(made: Any, packages: list[str]) -> None:
    """Load extensions from the installed packages; nothing is downloaded."""
    with tempfile.TemporaryDirectory(prefix="duckdb-") as folder:
        for package in packages:
            spec = importlib.util.find_spec(f"duckdb_extension_{package}")
            if spec is None or spec.origin is None:
                raise WrongUse(f"the package duckdb-extension-{package} is missing: run scripts/setup.")
            (file,) = Path(spec.origin).parent.rglob("*.duckdb_extension")
            link = Path(folder, f"{EXTENSIONS[package]}.duckdb_extension")
            link.symlink_to(file)
            made.execute(f"LOAD '{link}'")


def _set_keys(made: Any, settings: ArchiveSettings) -> None:
    """Configure DuckDB's access to object storage."""
    options = {"TYPE": "s3", "REGION": settings.s3_region}
    if settings.s3_endpoint is not None:
        scheme, _, host = settings.s3_endpoint.rstrip("/").partition("://")
        options |= {"ENDPOINT": host, "URL_STYLE": "path", "USE_SSL": "true" if scheme == "https" else "false"}
    if settings.s3_access_key is not None and settings.s3_secret_key is not None:
        options |= {"KEY_ID": settings.s3_access_key, "SECRET": settings.s3_secret_key.get_secret_value()}
    pairs = ", ".join(f"{name} '{value.replace(chr(39), 2 * chr(39))}'" for name, value in options.items())
    made.execute(f"CREATE SECRET archive ({pairs})")


def _sentence(error: Exception) -> str:
    return redact(" ".join(str(error).split())[:1000])


@click.command()
@click.option("-c", "commands", multiple=True, metavar="SQL", help="Run this statement and exit; may be repeated.")
@click.option("--csv", "as_csv", is_flag=True, help="Print rows as CSV, with a header.")
@program("duckdb", logs=False)
def main(commands: tuple[str, ...], as_csv: bool) -> int:
    """Run DuckDB on the archive. Without -c, read statements from the terminal or standard input."""
    made = connect()
    if not commands and sys.stdin.isatty():
        _talk(made, as_csv)
        return 0
    for text in commands or (sys.stdin.read(),):
        try:
            _run(made, text, as_csv)
        except duckdb.Error as error:
            raise WrongUse(_sentence(error)) from None
    return 0


def _run(made: Any, text: str, as_csv: bool) -> None:
    for statement in made.extract_statements(text):
        found = made.sql(statement.query)
        if found is None:
            continue
        if found.columns == ["explain_key", "explain_value"]:
            print(*(plan for _, plan in found.fetchall()), sep="\n")
            continue
        found = _readable(found)
        if as_csv:
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow(found.columns)
            texts = found.project("COLUMNS(*)::VARCHAR")  # formatted by DuckDB; its times in Python require pytz
            while rows := texts.fetchmany(10_000):
                writer.writerows(rows)
        elif sys.stdout.isatty():
            found.show(max_rows=_ROWS, max_width=shutil.get_terminal_size().columns)
        else:
            found.show(max_rows=1_000_000, max_width=10_000)


def _readable(found: Any) -> Any:
    """Remove trailing zeros of decimals: with them a table of prices is twice as wide."""
    names = [f'"{name.replace(chr(34), 2 * chr(34))}"' for name in found.columns]
    if len(set(names)) < len(names):
        return found
    trimmed = "rtrim(rtrim({0}::VARCHAR, '0'), '.') AS {0}"
    kinds = [str(type_) for type_ in found.types]
    return found.project(
        ", ".join(trimmed.format(name) if kind == _DECIMAL else name for name, kind in zip(names, kinds, strict=True))
    )


def _talk(made: Any, as_csv: bool) -> None:
    with suppress(ImportError):
        import readline  # noqa: F401  # gives input() its history and editing

    about = "SELECT count(*), sum(rows), min(first_ts)::DATE, max(last_ts)::DATE FROM archived"
    files, rows, first, last = made.sql(about).fetchone()
    content = f"{rows:,} rows in {files:,} files, {first} to {last}" if files else "no files yet"
    print(f"DuckDB {duckdb.__version__} on the archive: {content}. Views: {', '.join(LAYOUTS)}, instruments, archived.")
    print("db has the database's tables. Statements end with a semicolon, Ctrl-D ends.")
    for text in _statements():
        try:
            _run(made, text, as_csv)
        except KeyboardInterrupt:
            print("interrupted")
        except (duckdb.Error, RuntimeError) as error:  # RuntimeError: interrupted inside DuckDB
            print(_sentence(error), file=sys.stderr)


def _statements() -> Iterator[str]:
    lines: list[str] = []
    while True:
        try:
            lines.append(input("...> " if lines else "duckdb> "))
        except KeyboardInterrupt:
            print()
            lines.clear()
            continue
        except EOFError:
            print()
            return
        if not "".join(lines).strip():
            lines.clear()
        elif lines[-1].rstrip().endswith(";"):
            yield "\n".join(lines)
            lines.clear()


if __name__ == "__main__":
    main()
