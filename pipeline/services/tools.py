"""`psql`, `pulsar-admin`, `pulsar-client` with the addresses of this pipeline (`--demo` first: of the demonstration).

psql connects to the private database as the owner of the tables; with `--admin` as superuser, to create roles or change
server settings.

The tools are those installed with the private services, otherwise the system's. Passwords and tokens are passed in the
environment or a private file, so that they are in no process list.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from shutil import which
from typing import NoReturn

from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

from pipeline.broker.auth import token_of
from pipeline.core.errors import WrongUse
from pipeline.core.settings import ADMIN_ROLE, OWNER_ROLE, DatabaseSettings, PulsarSettings, load
from pipeline.services import layout
from pipeline.services.broker import JAVA_LOG_CONF, inherited
from pipeline.services.demo import enter_demo

# Variables that psql reads instead of the words of a connection string.
_PSQL = {one.keyword.decode(): one.envvar.decode() for one in Conninfo.get_defaults() if one.envvar}

# Our own tools, which only need the addresses.
OURS = {
    "verify": "pipeline.verify",
    "status": "pipeline.status",
    "doctor": "pipeline.doctor",
    "dead-letters": "consumers.dead_letters",
    "duckdb": "pipeline.duckdb",
}


def _psql(arguments: list[str]) -> NoReturn:
    own = layout.postgres_program("psql")
    tool = str(own) if own.exists() else which("psql")
    if tool is None:
        raise WrongUse("psql is missing: run scripts/setup without DATABASE_URL, or install postgresql-client.")
    as_admin = arguments[:1] == ["--admin"]
    role = ADMIN_ROLE if as_admin else OWNER_ROLE
    given = conninfo_to_dict(load(DatabaseSettings).conninfo_as(role))
    if "service" not in given:  # one of the environment would win over what we say there
        os.environ.pop("PGSERVICE", None)
    os.environ.update({_PSQL[key]: str(value) for key, value in given.items() if key in _PSQL and value is not None})
    if sys.stdout.isatty() and "PAGER" not in os.environ and which("less"):
        os.environ["PAGER"] = "less -SFX"
    os.execv(tool, [tool, *arguments[as_admin:]])


def _pulsar(name: str, arguments: list[str]) -> NoReturn:
    tool = layout.PULSAR_HOME / "bin" / name
    java = layout.java_home()
    if not tool.exists() or java is None:
        raise WrongUse(f"{name} is missing: run scripts/setup without PULSAR_URL.")
    settings = load(PulsarSettings)
    conf = {
        "webServiceUrl": settings.admin,
        "brokerServiceUrl": settings.service_url,
        # Shipped: off. The private broker's certificate is the only one trusted, and these tools would want the name
        # that they find for 127.0.0.1.
        "tlsEnableHostnameVerification": str(not settings.private).lower(),
    }
    if (token := token_of(settings)) is not None:
        conf |= {
            "authPlugin": "org.apache.pulsar.client.impl.auth.AuthenticationToken",
            "authParams": f"token:{token}",
        }
    if settings.authorities is not None:
        conf["tlsTrustCertsFilePath"] = str(settings.authorities.resolve())
    # The tool reads the file after this process is replaced; mode 0600, in a folder of the checkout.
    os.umask(0o077)
    layout.INSTALLED.mkdir(exist_ok=True)
    handle, file = tempfile.mkstemp(prefix=f"{name}.", suffix=".conf", dir=layout.INSTALLED)
    with os.fdopen(handle, "w") as stream:
        stream.writelines(f"{key}={value}\n" for key, value in conf.items())
    keep = layout.INSTALLED / f"{name}{'.demo' if 'PIPELINE_DEMO' in os.environ else ''}.conf"
    Path(file).replace(keep)
    # Warnings and errors only: the tools' log would mix with their output.
    logging = layout.INSTALLED / "java-logging.properties"
    logging.write_text(JAVA_LOG_CONF)
    logs = str(layout.INSTALLED / "logs")
    os.execve(
        str(tool),
        [str(tool), *arguments],
        inherited()
        | {
            "JAVA_HOME": str(java),
            "PULSAR_CLIENT_CONF": str(keep),
            "PULSAR_LOG_DIR": logs,
            "PULSAR_LOG_LEVEL": "error",
            "PULSAR_EXTRA_OPTS": f"-Djava.util.logging.config.file={logging}",
            "PULSAR_GC_LOG": "-Xlog:disable -Xlog:all=error:stderr",
        },
    )


def main() -> int:
    name, *arguments = sys.argv[1:]
    try:
        if arguments[:1] == ["--demo"]:
            arguments = arguments[1:]
            enter_demo()
        if name in OURS:
            os.execv(sys.executable, [sys.executable, "-m", OURS[name], *arguments])
        if name == "psql":
            _psql(arguments)
        _pulsar(name, arguments)
    except WrongUse as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
