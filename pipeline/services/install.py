"""`python -m pipeline.services.install`: install what this checkout needs. Called by scripts/setup."""

from __future__ import annotations

import errno
import sys
from concurrent.futures import ThreadPoolExecutor

from pipeline.core.errors import WrongUse, naming
from pipeline.core.settings import DatabaseSettings, PulsarSettings, ServicesSettings, check_all, load
from pipeline.services import class_archive, install_broker, install_database, layout
from pipeline.services.folders import made
from pipeline.services.place import check_place


def install() -> None:
    """Install the private services required by the settings. Raises `WrongUse` with what to do."""
    cache = load(ServicesSettings).cache
    jobs = []
    if load(PulsarSettings).private:
        if layout.java_home() is None:
            raise WrongUse(
                f"No Java >= {layout.JAVA_AT_LEAST} was found: install one and point JAVA_HOME to it, "
                "or set PULSAR_URL to a service that you already have."
            )
        jobs.append(install_broker.install)
    if load(DatabaseSettings).private:
        jobs.append(install_database.install)
    with naming("SERVICES_CACHE"):
        made(cache)
    with ThreadPoolExecutor(2) as pool:
        for job in [pool.submit(job, cache) for job in jobs]:
            try:
                job.result()
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                raise WrongUse(
                    f"The disk of {cache} or {layout.INSTALLED} is full: make room and run it again, or set PULSAR_URL "
                    "and DATABASE_URL to services that you already have."
                ) from None
    if install_broker.install in jobs:
        class_archive.make()


def main() -> int:
    try:
        check_all()
        check_place()
        install()
    except WrongUse as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130  # scripts/setup says it
    return 0


if __name__ == "__main__":
    sys.exit(main())
