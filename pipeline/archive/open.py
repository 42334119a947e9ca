"""Open the configured storage, and check that it is the catalog's."""

from __future__ import annotations

from pathlib import Path

from pipeline.archive import catalog
from pipeline.archive.s3 import Bucket
from pipeline.archive.storage import Folder, Storage
from pipeline.core.errors import WrongUse
from pipeline.core.settings import ArchiveSettings, CommonSettings, load
from pipeline.database import query
from pipeline.database.connection import Connection


def open_storage(settings: ArchiveSettings) -> Storage:
    """Return the configured storage, without accessing it."""
    if settings.place.startswith("s3://"):
        return Bucket(settings, load(CommonSettings).state_dir / "archive")
    return Folder(Path(settings.place))


def need_ledger(conn: Connection) -> None:
    """Raise `WrongUse` for a database that has no tables of the archive yet."""
    if query.scalar(conn, "SELECT to_regclass('lake.ducklake_metadata')") is None:
        raise WrongUse(
            "this database has no archive yet: start the pipeline once (scripts/start) to create its tables."
        )


def settle(conn: Connection, storage: Storage) -> None:
    """Record the files' location in the catalog if there is none yet. Raises `WrongUse` if they are elsewhere."""
    check_place(conn, storage)
    if catalog.data_path(conn) != storage.address:
        catalog.set_data_path(conn, storage.address)


def check_place(conn: Connection, storage: Storage) -> None:
    """Raise `WrongUse` if the catalog's files are not in this storage."""
    known = catalog.data_path(conn)
    if known == storage.address:
        return
    newest = query.scalar(conn, "SELECT path FROM archive_files WHERE ended_at IS NULL ORDER BY file_id DESC LIMIT 1")
    if newest is not None and not storage.has(newest):
        raise WrongUse(
            f"the archive's files are in {known or 'another place'} and not in {storage.address}:"
            " move them there first, or set ARCHIVE_PATH to where they are."
        )
