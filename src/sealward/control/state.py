"""Control's database: the changes, each with its bytes before anybody else knows of it, and the rows that they made.

SQLite in WAL mode with a sync at every commit, held by one process alone. What is served comes from the signer; the rows are
control's own copy of it, for backups and for a signer that lost its state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self

import orjson
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from sealward.errors import ConfigurationError
from sealward.events import Event
from sealward.formats import canonical
from sealward.formats.change import Change, parse_change
from sealward.formats.snapshot_schema import SECTIONS

Status = Literal["pending", "applied", "failed"]


@dataclass(frozen=True, slots=True)
class Stored:
    """One change as it was committed; `event` is its verb's, without digest and salt."""

    n: int
    status: Status
    change: Change
    event: Event = field(repr=False)


def create(path: Path, change: Change, event: Event) -> None:
    """A new database that holds the first change as pending; the first `up` carries it out."""
    if path.exists():
        raise ConfigurationError(f"{path} exists already")
    migrate(path)
    with State(path) as state:
        state.add(change, event)


def migrate(path: Path) -> None:
    """To the newest schema. It reads files of this package, so it comes before rights are given up."""
    engine = _engine(path)
    with resources.as_file(resources.files(__package__) / "migrations") as folder, engine.connect() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        command.upgrade(config, "head")
        connection.commit()
    engine.dispose()


class State:
    """One open database; ConfigurationError when another process holds it."""

    def __init__(self, path: Path) -> None:
        self._engine = _engine(path)
        try:
            self._connection = self._engine.connect()
            self._connection.exec_driver_sql("BEGIN IMMEDIATE")
            self._connection.rollback()
        except sa.exc.OperationalError as error:
            self._engine.dispose()
            raise ConfigurationError(
                f"{path}: {error.orig}", remedy="one control process at a time; `sealward status`"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()
        self._engine.dispose()

    def add(self, change: Change, event: Event) -> Stored:
        """Durable as pending on return."""
        values = {"status": "pending", "bytes": change.raw, "digest": change.digest, "event": orjson.dumps(event).decode()}
        with self._transaction() as connection:
            n = connection.execute(sa.insert(CHANGES).values(values)).inserted_primary_key
            assert n is not None
        return Stored(int(n[0]), "pending", change, event)

    def applied(self, stored: Stored, *, intent: int, epoch: int) -> None:
        """The change is signed: its rows are ours too, in one transaction."""
        with self._transaction() as connection:
            for op in stored.change.ops:
                _apply(connection, op)
            _mark(connection, stored.n, status="applied", intent=intent, epoch=epoch)

    def failed(self, stored: Stored, error: str) -> None:
        """The change will never be carried out."""
        with self._transaction() as connection:
            _mark(connection, stored.n, status="failed", error=error)

    def pending(self) -> list[Stored]:
        """In the order they came."""
        return self._stored(CHANGES.c.status == "pending")

    def find(self, digest: str) -> Stored | None:
        """The change of that digest (hex), whatever became of it."""
        return next(iter(self._stored(CHANGES.c.digest == digest)), None)

    def sections(self) -> dict[str, dict[str, Any]]:
        """The rows as sections of a snapshot."""
        found: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
        with self._transaction() as connection:
            for section, ident, value in connection.execute(sa.select(ROWS)):
                found[section][ident] = orjson.loads(value)
        return found

    def replace(self, sections: Mapping[str, Mapping[str, Any]]) -> None:
        """All rows: what the signer signed is what is so."""
        with self._transaction() as connection:
            connection.execute(sa.delete(ROWS))
            for section, rows in sections.items():
                for ident, value in rows.items():
                    _apply(connection, ["put", section, ident, value])

    def _stored(self, where: sa.ColumnElement[bool]) -> list[Stored]:
        query = sa.select(CHANGES.c.n, CHANGES.c.status, CHANGES.c.bytes, CHANGES.c.event).where(where).order_by(CHANGES.c.n)
        with self._transaction() as connection:
            found = connection.execute(query).all()
        return [Stored(n, status, parse_change(raw), orjson.loads(event)) for n, status, raw, event in found]

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        with self._connection.begin():
            yield self._connection


def _engine(path: Path) -> sa.Engine:
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        poolclass=sa.pool.StaticPool,
        hide_parameters=True,
        connect_args={"timeout": LOCK_S},
    )

    @sa.event.listens_for(engine, "connect")
    def _set(connection: Any, _: object) -> None:
        for pragma in PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")

    return engine


def _apply(connection: sa.Connection, op: Iterable[Any]) -> None:
    kind, section, ident, *value = op
    connection.execute(sa.delete(ROWS).where(ROWS.c.section == section, ROWS.c.id == ident))
    if kind == "put":
        row = {"section": section, "id": ident, "value": canonical.dumps(value[0]).decode()}
        connection.execute(sa.insert(ROWS).values(row))


def _mark(connection: sa.Connection, n: int, **values: object) -> None:
    connection.execute(sa.update(CHANGES).where(CHANGES.c.n == n).values(values))


PRAGMAS = ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = FULL")
LOCK_S = 0.5
METADATA = sa.MetaData()
ROWS = sa.Table(
    "rows",
    METADATA,
    sa.Column("section", sa.String, primary_key=True),
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("value", sa.String, nullable=False),
)
CHANGES = sa.Table(
    "changes",
    METADATA,
    sa.Column("n", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("status", sa.String, nullable=False),
    sa.Column("bytes", sa.LargeBinary, nullable=False),
    sa.Column("digest", sa.String, nullable=False, unique=True),
    sa.Column("event", sa.String, nullable=False),
    sa.Column("intent", sa.Integer),
    sa.Column("epoch", sa.Integer),
    sa.Column("error", sa.String),
)
