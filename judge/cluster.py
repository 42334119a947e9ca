"""A real Pulsar cluster of separate processes on this machine: ZooKeeper, three bookies, two brokers, quorum 2/2/2."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import requests

from pipeline.services import layout
from pipeline.services.processes import free_ports, wait_until

BOOKIES = 3
START_S = 180.0
_MEMORY = {"zookeeper": "128m", "bookie": "192m", "broker": "320m"}
_NAME = "local"


@dataclass
class Cluster:
    """`start` returns once every broker answers. `kill("broker-0")`, `kill("bookie-1")`: SIGKILL."""

    folder: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._zookeeper, *self._bookies = free_ports(1 + 2 * BOOKIES)
        self.broker_ports = free_ports(2)
        self.admin_ports = free_ports(2)

    @property
    def pulsar_url(self) -> str:
        """The service URL naming both brokers."""
        return "pulsar://" + ",".join(f"127.0.0.1:{port}" for port in self.broker_ports)

    def admin_url(self, broker: int = 0) -> str:
        return f"http://127.0.0.1:{self.admin_ports[broker]}"

    def start(self) -> None:
        metadata = f"zk:127.0.0.1:{self._zookeeper}"
        data = self.folder / "zookeeper"
        conf = self._conf(
            "zookeeper",
            "zookeeper.conf",
            {
                "clientPort": self._zookeeper,
                "clientPortAddress": "127.0.0.1",
                "dataDir": data,
                "admin.enableServer": "false",
                "metricsProvider.httpPort": free_ports(1)[0],
            },
        )
        self._run("zookeeper", "zookeeper", {"PULSAR_ZK_CONF": str(conf)})
        self._initialise(metadata)
        for number in range(BOOKIES):
            own = self.folder / f"bookie-{number}"
            conf = self._conf(
                f"bookie-{number}",
                "bookkeeper.conf",
                {
                    "bookiePort": self._bookies[2 * number],
                    "prometheusStatsHttpPort": self._bookies[2 * number + 1],
                    "httpServerPort": self._bookies[2 * number + 1],
                    "journalDirectory": own / "journal",
                    "ledgerDirectories": own / "ledgers",
                    "metadataServiceUri": f"zk+hierarchical://127.0.0.1:{self._zookeeper}/ledgers",
                    "allowLoopback": "true",
                    "advertisedAddress": "127.0.0.1",
                    "listeningInterface": "lo",
                    "dbStorage_writeCacheMaxSizeMb": 32,
                    "dbStorage_readAheadCacheMaxSizeMb": 16,
                    "dbStorage_rocksDB_blockCacheSize": 16 << 20,
                    "journalMaxSizeMB": 64,
                    "journalPreAllocSizeMB": 4,
                },
            )
            variables = {"PULSAR_BOOKKEEPER_CONF": str(conf), "BOOKIE_CONF": str(conf)}
            self._run(f"bookie-{number}", "bookie", variables)
        for number, (port, admin) in enumerate(zip(self.broker_ports, self.admin_ports, strict=True)):
            conf = self._conf(
                f"broker-{number}",
                "broker.conf",
                {
                    "metadataStoreUrl": metadata,
                    "configurationMetadataStoreUrl": metadata,
                    "clusterName": _NAME,
                    "brokerServicePort": port,
                    "webServicePort": admin,
                    "bindAddress": "127.0.0.1",
                    "advertisedAddress": "127.0.0.1",
                    "managedLedgerDefaultEnsembleSize": 2,
                    "managedLedgerDefaultWriteQuorum": 2,
                    "managedLedgerDefaultAckQuorum": 2,
                    # shipped: 30 s, for which the topics of a dead broker stay without one
                    "metadataStoreSessionTimeoutMillis": 6000,
                    "brokerDeleteInactiveTopicsEnabled": "false",
                    "managedLedgerCacheSizeMB": 32,
                    "numHttpServerThreads": 8,
                    "webSocketServiceEnabled": "false",
                },
            )
            self._run(f"broker-{number}", "broker", {"PULSAR_BROKER_CONF": str(conf)})
        if not wait_until(self._ready, START_S, 0.5):
            raise RuntimeError(f"the cluster did not come up; see {self.folder}")

    def _ready(self) -> bool:
        if ended := [name for name, process in self.processes.items() if process.poll() is not None]:
            raise RuntimeError(f"{ended[0]} ended:\n{(self.folder / f'{ended[0]}.log').read_text()[-1500:]}")
        try:
            urls = [f"{self.admin_url(n)}/admin/v2/brokers/health" for n in range(len(self.admin_ports))]
            return all(requests.get(url, timeout=10).status_code == 200 for url in urls)
        except requests.RequestException:
            return False

    def _initialise(self, metadata: str) -> None:
        end = time.monotonic() + START_S
        command = [
            str(layout.PULSAR_HOME / "bin" / "pulsar"),
            "initialize-cluster-metadata",
            "--cluster",
            _NAME,
            "--metadata-store",
            metadata,
            "--configuration-metadata-store",
            metadata,
            "--web-service-url",
            self.admin_url(),
            "--broker-service-url",
            f"pulsar://127.0.0.1:{self.broker_ports[0]}",
        ]
        while True:
            done = subprocess.run(command, env=self._environment("zookeeper", {}), capture_output=True, text=True)
            if done.returncode == 0:
                return
            if time.monotonic() > end:
                raise RuntimeError(
                    f"the cluster's metadata could not be initialized: {done.stdout[-1500:]}{done.stderr[-500:]}"
                )
            time.sleep(1)

    def _conf(self, name: str, shipped: str, ours: dict[str, object]) -> Path:
        """Write the shipped configuration with our values."""
        (self.folder / name).mkdir(parents=True, exist_ok=True)
        lines = (layout.PULSAR_HOME / "conf" / shipped).read_text().splitlines()
        kept = [line for line in lines if line.partition("=")[0].strip() not in ours]
        file = self.folder / f"{name}.conf"
        file.write_text("\n".join([*kept, *(f"{key}={value}" for key, value in ours.items()), ""]))
        return file

    def _environment(self, kind: str, variables: dict[str, str]) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PULSAR_", "OPTS", "BOOKIE_"))}
        memory = _MEMORY[kind]
        options = f"-Xms64m -Xmx{memory} -XX:MaxDirectMemorySize={memory}"
        return kept | {
            "JAVA_HOME": str(layout.java_home()),
            "PULSAR_MEM": options,
            "BOOKIE_MEM": options,
            "PULSAR_GC": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
            "BOOKIE_GC": "-XX:+UseSerialGC",
            "PULSAR_GC_LOG": "-Xlog:disable",
            "BOOKIE_GC_LOG": "-Xlog:disable",
            "PULSAR_LOG_DIR": str(self.folder / "logs"),
            **variables,
        }

    def _run(self, name: str, kind: str, variables: dict[str, str]) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", str(layout.PULSAR_HOME / "bin" / "pulsar"), kind],
                env=self._environment(kind, variables),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def kill(self, name: str) -> None:
        self.processes[name].send_signal(signal.SIGKILL)
        self.processes[name].wait()

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait()
