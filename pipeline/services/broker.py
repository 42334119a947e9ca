"""The private Pulsar broker: one JVM with broker, bookie and metadata store (`pulsar standalone`)."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from pipeline.core.errors import WrongUse
from pipeline.services import bookie_journal_repair, credentials, layout, local_http
from pipeline.services.folders import closed

# Warnings and errors only: at its default level the broker writes some 2,000 lines for a normal start. The messages
# excluded below are written at every start and stop of a healthy broker (its bookie ends before its last reads), or are
# returned to the admin client anyway; clients without a token must not fill the log.
LOG_CONF = """\
Configuration:
  status: ERROR
  Appenders:
    Console:
      name: Console
      target: SYSTEM_OUT
      PatternLayout:
        Pattern: "%d{ISO8601_OFFSET_DATE_TIME_HHMM} %-5level %logger{1} %msg %throwable{4}{separator( < )}%n"
      RegexFilter:
        regex: ".*(okay if it is the first time|/ledgers already exists|Delete schema storage|not shutdown cleanly).*"
        onMatch: DENY
        onMismatch: NEUTRAL
  Loggers:
    Root:
      level: warn
      AppenderRef:
        - ref: Console
    Logger:
      - name: io.netty.bootstrap
        level: error
      - name: org.apache.bookkeeper.client.TopologyAwareEnsemblePlacementPolicy
        level: error
      - name: org.apache.bookkeeper.common.component.ComponentStarter
        level: "off"
      - name: org.apache.bookkeeper.client.PendingReadOp
        level: "off"
      - name: org.apache.bookkeeper.proto.PerChannelBookieClient
        level: "off"
      - name: org.apache.pulsar.broker.service.HealthChecker
        level: "off"
      - name: org.apache.pulsar.broker.admin
        level: "off"
      - name: org.apache.pulsar.broker.web.AuthenticationFilter
        level: "off"
"""
JAVA_LOG_CONF = ".level = SEVERE\nhandlers = java.util.logging.ConsoleHandler\n"


def inherited() -> dict[str, str]:
    """Return the caller's environment without what changes Pulsar's scripts or any Java: an agent that is not there
    keeps it from starting, and `_JAVA_OPTIONS` wins over the memory that we give it."""
    others = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS")
    return {key: value for key, value in os.environ.items() if not key.startswith(("PULSAR_", "OPTS", *others))}


@dataclass(frozen=True)
class Broker:
    """Configuration and start of the broker of one data folder.

    `memory`: heap, and the same amount of direct memory (`512m`). With `durable` a message is acknowledged after fsync;
    without it (tests) after being written, which still survives the death of the process. `advertised_port`: the port
    announced to clients, for a tunnel or proxy (0: `port`). `java_options`: further options of the JVM.
    """

    folder: Path
    port: int
    admin_port: int
    memory: str = "512m"
    durable: bool = True
    advertised_port: int = field(default=0, kw_only=True)
    java_options: str = field(default="", kw_only=True)

    name = "broker"
    polite = signal.SIGTERM

    @property
    def ports(self) -> dict[int, str]:
        """Return the required ports, each with the setting that changes it."""
        return {self.port: "PULSAR_PORT", self.admin_port: "PULSAR_ADMIN_PORT"}

    @property
    def admin_url(self) -> str:
        return f"https://127.0.0.1:{self.admin_port}"

    @property
    def url(self) -> str:
        return f"pulsar+ssl://127.0.0.1:{self.port}"

    @property
    def token_file(self) -> Path:
        """The file with the client token; created if missing."""
        return credentials.broker_token(self.folder)[1]

    @property
    def certificate_file(self) -> Path:
        """The file with the certificate that clients trust; created if missing."""
        return credentials.broker_certificate(self.folder)[1]

    def make_credentials(self) -> None:
        """Make what clients need, before the first of them starts."""
        credentials.broker_token(self.folder)
        credentials.broker_certificate(self.folder)

    def _access(self) -> dict[str, str]:
        """Require our token for clients and admin (a web page in a browser on this machine can reach the admin port
        too, but cannot send the header), and show them our certificate: whoever holds the ports while the broker is
        down is given no token and is not taken for it."""
        key, token = credentials.broker_token(self.folder)
        private, certificate = credentials.broker_certificate(self.folder)
        return {
            # Measured, processor time of the broker: 3 us more for a message of 185 bytes sent and received, 6 ms for
            # a MB of hours of quotes (100,000 of them).
            "tlsEnabled": "true",
            "brokerServicePort": "",
            "brokerServicePortTls": str(self.port),
            "webServicePort": "",
            "webServicePortTls": str(self.admin_port),
            "tlsKeyFilePath": str(private),
            "tlsCertificateFilePath": str(certificate),
            "tlsTrustCertsFilePath": str(certificate),
            "brokerClientTlsEnabled": "true",
            "brokerClientTrustCertsFilePath": str(certificate),
            "authenticationEnabled": "true",
            "authenticationProviders": "org.apache.pulsar.broker.authentication.AuthenticationProviderToken",
            "tokenSecretKey": key.resolve().as_uri(),
            "authorizationEnabled": "true",
            "superUserRoles": credentials.BROKER_ROLE,
            "authenticateMetricsEndpoint": "true",
            # The broker's own client, used for its health check.
            "brokerClientAuthenticationPlugin": "org.apache.pulsar.client.impl.auth.AuthenticationToken",
            "brokerClientAuthenticationParameters": token.resolve().as_uri(),
        }

    def _settings(self) -> dict[str, str]:
        elsewhere = f"internal:pulsar+ssl://127.0.0.1:{self.advertised_port}" if self.advertised_port else ""
        return self._access() | {
            "bindAddress": "127.0.0.1",
            "advertisedAddress": "127.0.0.1",
            "advertisedListeners": elsewhere,
            "webSocketServiceEnabled": "false",
            # Broker and bookie share the process and communicate inside it; the bookie opens no port (it would listen
            # on every interface). Ledgers name their bookie: a constant that only looks like an address, because the
            # start script parses a port from it.
            "bookieId": "127.0.0.1:3181",
            "enableLocalTransport": "true",
            "disableServerSocketBind": "true",
            # The older wire protocol (shipped) cannot read an entry above some 16 kB through that transport: "Received
            # invalid response ... ByteBufList ... to decode", and hours of quotes that left the cache are never read.
            "bookkeeperUseV2WireProtocol": "false",
            "journalSyncData": str(self.durable).lower(),
            "managedLedgerDigestType": "CRC32C",  # shipped; `journal.mend` counts on it
            # A consumer's permits are messages, but without this the broker reads as many *entries*, and ours are
            # batches of hundreds. Measured: a writer with 50 permits on each of 20 topics got 200 MB at once, now 120
            # MB.
            "preciseDispatcherFlowControl": "true",
            # Default: the first message of a topic waits a second for a consumer. It avoids duplicate deliveries after
            # a change of consumers, which our ledger makes harmless.
            "activeConsumerFailoverDelayTimeMillis": "0",
            # Default: a reader that waits at a topic's end is served 10 ms after the next message came. Measured with
            # bare clients, 1,000 messages/s: from sent to stored p50 9.4 and p99 15 ms, with 0 it is 4.4 and 6.4 ms,
            # and no more processor time.
            "managedLedgerNewEntriesCheckDelayInMillis": "0",
            # Policies of single topics are kept in system topics, for which the broker runs a client of its own, and
            # that has a timer that ticks every millisecond. Policies of namespaces, which we use, need neither.
            "systemTopicEnabled": "false",
            "topicLevelPoliciesEnabled": "false",
            # Topics must not be deleted when unused.
            "brokerDeleteInactiveTopicsEnabled": "false",
            # Acknowledgements are on disk within 0.1 s instead of 10 s: fewer duplicates after a crash.
            "managedLedgerDefaultMarkDeleteRateLimit": "10",
            "managedLedgerCursorPositionFlushSeconds": "1",
            # Space is freed by complete closed ledgers; default: up to 4 h.
            "managedLedgerMaxLedgerRolloverTimeMinutes": "60",
            # A stop must take less than 10 s; default: 60 s.
            "brokerShutdownTimeoutMs": "3000",
            # Sized for a JVM of half a gigabyte on 2 cores instead of the machine's memory.
            "numHttpServerThreads": "8",
            "numOrderedExecutorThreads": "2",
            "managedLedgerCacheSizeMB": "64",
            # Default: 100 times a second. Measured: an idle broker used 0.5 s of CPU time in 20 s, now 0.2 s. Entries
            # stay for a second anyway.
            "managedLedgerCacheEvictionFrequency": "10.0",
            "dbStorage_writeCacheMaxSizeMb": "64",
            "dbStorage_readAheadCacheMaxSizeMb": "32",
            "dbStorage_rocksDB_blockCacheSize": str(16 * 1024 * 1024),
            "journalMaxSizeMB": "128",
            "journalPreAllocSizeMB": "16",
            "logSizeLimit": str(128 * 1024 * 1024),
        }

    def prepare(self) -> None:
        """Write the configuration, the default one with our values, and repair the journal. Called at every start."""
        shipped = layout.PULSAR_HOME / "conf" / "standalone.conf"
        if not shipped.exists():
            raise WrongUse("The broker is not installed: run scripts/setup, or set PULSAR_URL to an existing one.")
        ours = self._settings()
        kept = [line for line in shipped.read_text().splitlines() if line.partition("=")[0].strip() not in ours]
        closed(self.folder)
        conf = closed(self.folder / "conf")
        lines = [*kept, "", "# this project", *(f"{key}={value}" for key, value in ours.items()), ""]
        (conf / "standalone.conf").write_text("\n".join(lines))
        (conf / "log4j2.yaml").write_text(LOG_CONF)
        (conf / "java-logging.properties").write_text(JAVA_LOG_CONF)
        # Native libraries unpacked by the JVM, 13 MB at each start, which a kill leaves behind.
        shutil.rmtree(self._unpacked, ignore_errors=True)
        closed(self._unpacked)
        self._forget_half_start()
        if mended := bookie_journal_repair.mend(self.folder / "bookkeeper" / "current"):
            print(f"broker: after a kill, {mended}", flush=True)

    @property
    def _unpacked(self) -> Path:
        return self.folder / "tmp"

    def _forget_half_start(self) -> None:
        """Remove the bookie's folder if its VERSION is empty or missing: a broker killed in its first seconds leaves it
        so, and no later start succeeds. Nothing was stored yet."""
        bookie = self.folder / "bookkeeper"
        files = [file for file in bookie.rglob("*") if file.is_file()]
        if bookie.exists() and all(file.name == "VERSION" and not file.stat().st_size for file in files):
            shutil.rmtree(bookie)

    def command(self) -> list[str]:
        """Return the command line; `bin/pulsar` ends in `exec java`, so signals reach the JVM."""
        return [
            str(layout.PULSAR_HOME / "bin" / "pulsar"),
            "standalone",
            "-nfw",
            "-nss",
            "-a",
            "127.0.0.1",
            "--metadata-dir",
            str(self.folder / "metadata"),
            "--bookkeeper-dir",
            str(self.folder / "bookkeeper"),
        ]

    def environment(self) -> dict[str, str]:
        """Return the caller's environment plus the variables of Pulsar's scripts."""
        java = layout.java_home()
        if java is None:
            raise WrongUse("No Java >= 21: run scripts/setup, or set PULSAR_URL to an existing broker.")
        conf = self.folder / "conf"
        return inherited() | {
            "JAVA_HOME": str(java),
            "PULSAR_STANDALONE_CONF": str(conf / "standalone.conf"),
            # Pulsar's script puts the folder of this file in front of the class path, and with a folder that holds
            # something, or differs, the JVM takes no class archive. So it is one that never exists; see log4j below.
            "PULSAR_LOG_CONF": str(layout.PULSAR_HOME / "no-folder" / "log4j2.yaml"),
            "PULSAR_LOG_DIR": str(self.folder / "logs"),
            "PULSAR_MEM": f"-Xms128m -Xmx{self.memory} -XX:MaxDirectMemorySize={self.memory}",
            # G1 returns memory and needs one core less than the default ZGC; half a gigabyte pauses for milliseconds.
            # Without the C2 compiler, which competes for 2 cores after the start. CPU time of four loads of 1.3 M
            # quotes in a row: 5.7 4.4 2.8 2.4 s with it, 3.5 1.7 2.1 1.5 s without (one series each). Its code is
            # faster in the long run: without the compilation itself, the fourth load took 1.2 s against 1.4 s.
            "PULSAR_GC": "-XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:+PerfDisableSharedMem -XX:TieredStopAtLevel=1",
            # The two defaults, and quiet logging of libraries that do not use log4j.
            "PULSAR_EXTRA_OPTS": "-Dpulsar.allocator.exit_on_oom=true -Dio.netty.recycler.maxCapacityPerThread=4096"
            f" -Dlog4j.configurationFile={conf / 'log4j2.yaml'}"
            f" -Djava.util.logging.config.file={conf / 'java-logging.properties'}"
            f" -Djava.io.tmpdir={self._unpacked}"
            f" {self.java_options or f'-XX:SharedArchiveFile={layout.class_archive()}'}",
            "PULSAR_GC_LOG": "-Xlog:disable -Xlog:all=error:stderr",
        }

    def ask(self, path: str, within_s: float = 10.0, **request: Any) -> requests.Response:
        """Call the admin interface, with arguments of `local_http.ask`. Raises `requests.RequestException`."""
        address = f"{self.admin_url}/admin/v2/{path}"
        token = self.token_file.read_text()
        return local_http.ask(address, within_s, token=token, certificate=self.certificate_file, **request)

    def ready(self) -> bool:
        """Whether the broker has started and made its default namespace, which comes last. Not its health check, which
        makes it run a client of its own from then on."""
        try:
            return all(self.ask(path).status_code == 200 for path in ("brokers/ready", "namespaces/public/default"))
        except requests.RequestException:
            return False

    def leftovers(self) -> list[Path]:
        """Return working folders used by this service's processes only."""
        return []
