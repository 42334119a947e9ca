"""The whole pipeline under supervisord, in its own folder, with proxies on the connections that faults cut."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xmlrpc.client import Error as RpcError
from xmlrpc.client import ServerProxy

import psycopg
import pulsar
from supervisor.xmlrpc import SupervisorTransport

from judge import programs
from judge.old_days import KEY, LOAD, RETENTION_DAYS, OldDays
from judge.proxy import Proxy
from judge.samples import stored_products
from judge.schedule import FEEDING, LOADS, SAMPLED, TRADING, VENUES
from judge.small_disk import SmallDisk, copied
from pipeline.core.settings import PROJECT, is_setting
from pipeline.services import conf, demo
from pipeline.services.broker import Broker
from pipeline.services.database import Database
from pipeline.services.folders import closed
from pipeline.services.processes import Process, end, free_ports, free_range, wait_until, working_in
from simulator.market import Product
from simulator.testing import Simulator, urls

LOADED_HOURS = 26  # those that the simulator has recorded
OFF = ("dukascopy", "exchange-candles")
SKEWED = (*FEEDING, "archive", "dashboard", *LOADS)  # programs whose clock can be shifted


class Stage:
    """`start` starts everything, `close` stops it. `processes` are those of supervisord now.

    Historical loads are slowed down to last `load_s`: at full speed they end before the first fault.
    """

    def __init__(self, simulator: Simulator, load_s: float, keep: Path | None = None) -> None:
        self.simulator = simulator
        self._load_s = load_s
        self.folder = Path(tempfile.mkdtemp(prefix="judge-", dir=keep))
        closed(self.folder / "data")  # before the archive fills it: no start takes a folder that looks like another's
        self.log = self.folder / "log"
        self.old = OldDays(simulator, self.folder / "data" / "archive")
        pulsar, admin, database, self.dashboard_port = free_ports(4)
        self.database_port = database
        self._database = Database(self.folder / "data" / "database", database)
        self.broker = Broker(self.folder / "data" / "broker", pulsar, admin)
        self.proxies = {"database": Proxy(database), "broker": Proxy(pulsar), "venues": Proxy(simulator.port)}
        self.metrics_base = free_range(30)
        self.tenant = "market-data"
        self._supervisord: subprocess.Popen[bytes] | None = None
        self.disk = SmallDisk(self.folder / "data" / "database")
        self._conf = self._write_conf()

    # -- ground -------------------------------------------------------------------------------------------------------

    @property
    def database_url(self) -> str:
        """The database URL as superuser, bypassing the proxy."""
        return self._database.url()

    @property
    def _live(self) -> list[Product]:
        """The products that are followed live."""
        products = [product for venue in VENUES for product in self.simulator.config.products_of(venue)]
        return [product for product in products if (product.venue, product.canonical) != KEY]

    def newest_id(self, venue: str, product: str) -> int:
        """The venue's own id of the newest trade; some number where it has no such product."""
        newest = self.simulator.now().get((venue, product))
        return 1000 if newest is None else self.simulator.numbering(venue, product).trade_id(newest)

    def client(self) -> pulsar.Client:
        """A client that bypasses the proxy."""
        return pulsar.Client(
            self.broker.url,
            authentication=pulsar.AuthenticationToken(self.broker.token_file.read_text()),
            tls_trust_certs_file_path=str(self.broker.certificate_file),
            operation_timeout_seconds=5,
            logger=pulsar.FileLogger(pulsar.LoggerLevel.Error, os.devnull),  # it is struck often, and says so each time
        )

    def _environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not is_setting(key)}
        base = self.metrics_base
        symbols = {
            f"{venue.upper()}_PRODUCT_IDS": ",".join(p.canonical for p in self._live if p.venue == venue)
            for venue in VENUES
        } | {f"{venue.upper()}_ENABLED": "true" for venue in VENUES}
        return (
            kept
            | urls(self.proxies["venues"].port)
            | symbols
            | {
                demo.MARK: "1",  # the loaders of the recorded hours are programs of the demonstration
                "ENV_FILE": os.devnull,
                "SERVICES_DATA": str(self.folder / "data"),
                "STATE_DIR": str(self.folder / "state"),
                "PULSAR_PORT": str(self.broker.port),
                "PULSAR_ADMIN_PORT": str(self.broker.admin_port),
                "PULSAR_ADVERTISED_PORT": str(self.proxies["broker"].port),
                "DATABASE_PORT": str(self.database_port),
                "METRICS_BASE_PORT": str(base),
                "DASHBOARD_PORT": str(self.dashboard_port),
                "SIMULATOR_PORT": str(free_ports(1)[0]),  # the demonstration's own, which does not run here
                "DUKASCOPY_FEED": "bi5",
                "DUKASCOPY_CACHE": "false",
                "DUKASCOPY_MAX_RATE": f"{LOADED_HOURS / self._load_s:.4f}",
                "DUKASCOPY_EMPTY_CONFIRM_SECONDS": "5",
                "GAP_FILLER_CONFIRM_SECONDS": "20",
                "ARCHIVE_AFTER_HOURS": "0",
                "ARCHIVE_POLL_SECONDS": "1",
                "DATABASE_RETENTION_DAYS": str(RETENTION_DAYS),
                "DATABASE_RETENTION_POLL_SECONDS": "1",
                "LIMITS_MIN_FREE_DISK_GB": "0",
                "LOG_FORMAT": "json",
                "PYTHONPATH": str(PROJECT),
            }
        )

    def _write_conf(self) -> Path:
        """As the demonstration's, but the programs reach database and broker through the proxies."""
        through = {
            # who has an address set says himself who comes: superuser, so that the programs can migrate
            "DATABASE_URL": self._database.url(port=self.proxies["database"].port),
            "PULSAR_URL": f"pulsar+ssl://127.0.0.1:{self.proxies['broker'].port}",
            "PULSAR_ADMIN_URL": self.broker.admin_url,
            "PULSAR_TOKEN_FILE": str(self.broker.token_file),
            "PULSAR_TLS_CA_FILE": str(self.broker.certificate_file),
        }
        clocks = {name: str(self._clock(name)) for name in SKEWED}
        return programs.write(self.folder, OFF, through, clocks, self.old.load_command())

    def _clock(self, program: str) -> Path:
        return self.folder / f"clock-{program}"

    def turn_clock(self, target: str, seconds: float) -> None:
        """Shift the clock of one program, or of `all`, by `seconds`; 0: correct again."""
        for program in SKEWED if target == "all" else (target,):
            fresh = self.folder / "clock.new"
            fresh.write_text(str(int(seconds * 1_000_000)))
            fresh.replace(self._clock(program))

    # -- processes ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        if not hasattr(self, "environment"):
            self.environment = self._environment()
        self._start_supervisord()

    def _start_supervisord(self) -> None:
        with self.log.open("ab") as log:
            self._supervisord = subprocess.Popen(
                conf.supervisord(self._conf),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=PROJECT,
                env=self.environment,
                start_new_session=True,
            )

    def kill_supervisord(self) -> None:
        """Kill supervisord and restart it, as a service manager would."""
        assert self._supervisord is not None
        self._supervisord.kill()
        self._supervisord.wait()
        time.sleep(1)
        self._start_supervisord()

    def revive(self) -> bool:
        """Restart supervisord if it exited; returns whether it had."""
        if self._supervisord is None or self._supervisord.poll() is None:
            return False
        self._start_supervisord()
        return True

    def _supervisor(self) -> Any:
        transport = SupervisorTransport(None, None, f"unix://{self.folder / 'sock'}")
        return ServerProxy("http://127.0.0.1", transport=transport).supervisor

    @contextlib.contextmanager
    def _database_down(self) -> Iterator[Path]:
        """Stop the database and yield its data folder. Raises `OSError` if supervisord is unreachable."""
        folder = self.folder / "data" / "database" / "postgresql"
        try:
            self._supervisor().stopProcess("services:database")
            end(working_in(folder), signal.SIGTERM, 5)
            yield folder
        except RpcError as error:
            raise OSError(str(error)) from None
        finally:
            with contextlib.suppress(OSError, RpcError):
                self._supervisor().startProcess("services:database", False)

    def back_up_database(self) -> None:
        """Make a cold copy outside the small disk."""
        with self._database_down() as data:
            copy = self.folder / "backup"
            shutil.rmtree(copy, ignore_errors=True)
            copied(data, copy)

    def restore_database(self) -> None:
        """Restore the copy. What was loaded since is loaded again, as after any restore."""
        with self._database_down() as data:
            self.disk.empty()
            shutil.rmtree(data)
            copied(self.folder / "backup", data)
        for name in [s["name"] for s in self.states() if s["name"] in (*LOADS, LOAD) and s["statename"] == "EXITED"]:
            with contextlib.suppress(OSError, RpcError):
                self._supervisor().startProcess(f"programs:{name}", False)

    def states(self) -> list[dict[str, Any]]:
        try:
            found: Any = self._supervisor().getAllProcessInfo()
        except (OSError, RpcError):
            return []
        return list(found)

    def process(self, name: str) -> list[Process]:
        """Return the running processes of a program (of the database: its backends too)."""
        pids = [int(s["pid"]) for s in self.states() if s["name"] == name and s["statename"] == "RUNNING"]
        found = [p for p in map(Process.of, pids) if p is not None]
        return found + (working_in(self.folder / "data" / "database" / "postgresql") if name == "database" else [])

    def signal(self, name: str, number: signal.Signals) -> bool:
        """Send a signal; returns False if the program is not running. Of the database only the postmaster gets it."""
        processes = self.process(name)
        for process in processes[:1] if number == signal.SIGKILL else processes:
            process.send(number)
        return bool(processes)

    def wait_up(self, seconds: float) -> None:
        """Wait until some data of every live product of every venue is stored, and the old days are requested."""
        counts = [sum(one.venue in venues for one in self._live) for venues in (TRADING, SAMPLED)]

        def arrived() -> bool:
            with contextlib.suppress(psycopg.Error), psycopg.connect(self.database_url, connect_timeout=2) as conn:
                return stored_products(conn) == counts and self.old.asked(conn)
            return False

        def ended() -> bool:
            return self._supervisord is None or self._supervisord.poll() is not None

        if not wait_until(lambda: ended() or arrived(), seconds, 0.5) or ended():
            raise RuntimeError(f"the pipeline did not come up:\n{self.tail()}")

    def tail(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def close(self, keep: bool = False) -> None:
        if self._supervisord is not None:
            for process in [p for s in self.states() if s["pid"] and (p := Process.of(int(s["pid"])))]:
                process.send(signal.SIGCONT)
            self._supervisord.terminate()
            try:
                self._supervisord.wait(30)
            except subprocess.TimeoutExpired:
                self._supervisord.kill()
                self._supervisord.wait()
        end(working_in(self.folder / "data" / "database" / "postgresql"), signal.SIGTERM, 5)
        self.disk.close()
        if keep:
            print(f"kept: {self.folder}", file=sys.stderr)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def asking_environment(self) -> dict[str, str]:
        """Environment of a process that polls like `scripts/status`, bypassing the proxies."""
        return self.environment | {"SUPERVISOR_SERVER_URL": f"unix://{self.folder / 'sock'}"}

    def write(self, name: str, data: dict[str, Any]) -> Path:
        file = self.folder / name
        file.write_text(json.dumps(data, indent=1))
        return file
