"""Programs against the simulator: started, awaited, ended; what they published and stored."""

from __future__ import annotations

import json
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pulsar

import schemas
from pipeline.core.settings import PROJECT
from tests import hurried

T = TypeVar("T")


# A guard against waiting for ever, no measure: beside two busy cores a proof that takes seconds came after a minute.
PATIENCE_S = 180.0


def until(what: str, look: Callable[[], T], seconds: float = PATIENCE_S) -> T:
    """Wait for a condition and give what made it true."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.1)
    return found


class Running:
    """A program as a subprocess, with its log lines."""

    def __init__(self, command: list[str], env: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("ab") as out:
            self.process = subprocess.Popen(command, env=env, cwd=PROJECT, stdout=out, stderr=subprocess.STDOUT)

    def lines(self, event: str | None = None) -> list[dict[str, Any]]:
        found = []
        for text in self.log.read_text().splitlines():
            if text.startswith("{"):
                line = json.loads(text)
                if event is None or line.get("event") == event:
                    found.append(line)
        return found

    def wait_for(self, event: str, seconds: float = PATIENCE_S, **fields: Any) -> dict[str, Any]:
        """The first log line of this event with these fields."""

        def look() -> dict[str, Any] | None:
            assert self.process.poll() is None or self._has(event, fields), self.log.read_text()[-3000:]
            return self._has(event, fields)

        return until(f"{event} {fields}", look, seconds)

    def _has(self, event: str, fields: dict[str, Any]) -> dict[str, Any] | None:
        return next((x for x in self.lines(event) if all(x.get(key) == value for key, value in fields.items())), None)

    def get(self, path: str) -> tuple[int, str]:
        """(status, body) of `/health` or `/metrics`."""
        port = self.wait_for("process.started")["health_port"]
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def health(self) -> tuple[int, dict[str, Any]]:
        status, body = self.get("/health")
        return status, json.loads(body)

    def metric(self, name: str, labels: str = "") -> float:
        """Its value; 0 while nothing was counted under these labels."""
        lines = self.get("/metrics")[1].splitlines()
        return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{name}{labels} ")), 0.0)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Signal it and give the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(30)


@contextmanager
def running(
    module: str, env: dict[str, str], folder: Path, *args: str, constants: Mapping[str, float] | None = None
) -> Iterator[Running]:
    """The program for the length of a block; `constants`: see `tests.hurried`."""
    program = Running([*hurried.command(module, constants or {}), *args], env, folder / f"{module}.log")
    try:
        yield program
    finally:
        if program.process.poll() is None:
            program.process.kill()
        program.process.wait()


def published(env: dict[str, str], schema: str, namespace: str, local: str) -> list[dict[str, Any]]:
    """All records of a topic so far."""
    client = pulsar.Client(
        env["PULSAR_URL"],
        authentication=pulsar.AuthenticationToken(Path(env["PULSAR_TOKEN_FILE"]).read_text()),
        tls_trust_certs_file_path=env["PULSAR_TLS_CA_FILE"],
        logger=pulsar.ConsoleLogger(pulsar.LoggerLevel.Error),
    )
    try:
        reader = client.create_reader(
            f"persistent://{env['PULSAR_TENANT']}/{namespace}/{local}", pulsar.MessageId.earliest
        )
        records = []
        while reader.has_message_available():
            records.append(schemas.decode(schema, reader.read_next(5000).data()))
        return records
    finally:
        with suppress(pulsar.PulsarException):  # of a topic that is terminated: its reader may just be reconnecting
            client.close()


def stored_ids(env: dict[str, str], venue: str, product: str) -> list[int]:
    with psycopg.connect(env["DATABASE_URL"]) as connection:
        rows = connection.execute(
            "SELECT trade_id FROM trades JOIN instruments USING (instrument_id)"
            " WHERE venue = %s AND product_id = %s ORDER BY 1",
            (venue, product),
        ).fetchall()
    return [row[0] for row in rows]


def query(env: dict[str, str], text: str) -> list[Any]:
    with psycopg.connect(env["DATABASE_URL"]) as connection:
        return connection.execute(text).fetchall()  # type: ignore[call-overload,no-any-return]
