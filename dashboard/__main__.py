"""`python -m dashboard`: serve the page until stopped."""

from __future__ import annotations

import asyncio
import threading

import click
from aiohttp import web

from dashboard.gate import Connections
from dashboard.server import Dashboard
from pipeline.core import events
from pipeline.core.admission import taken
from pipeline.core.health import HealthServer
from pipeline.core.log import get_logger
from pipeline.core.programs import BY_NAME
from pipeline.core.runtime import Stop, program
from pipeline.core.settings import DashboardSettings, ServicesSettings, load
from pipeline.services import charts_library


async def _serve(host: str, port: int, stop: threading.Event) -> None:
    dashboard = Dashboard()
    runner = web.AppRunner(dashboard.app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    assert runner.server is not None
    try:
        try:
            listening = await asyncio.get_running_loop().create_server(Connections(runner.server), host, port)
        except OSError as error:
            raise taken(
                f"port {port} of {host} is not available ({error.strerror}); set DASHBOARD_PORT to a free one."
            ) from None
        health = HealthServer("dashboard", BY_NAME["dashboard"].port, dashboard.health)
        get_logger().info(
            events.STARTED, url=f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", health_port=health.port
        )
        await asyncio.to_thread(stop.wait)
        listening.close()
    finally:
        await runner.cleanup()


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), help="Overrides DASHBOARD_PORT; 0: any free port.")
@program("dashboard")
def main(port: int | None) -> None:
    """Serve the dashboard."""
    settings = load(DashboardSettings, port=port)
    stop = Stop().listen()
    if not charts_library.installed():
        charts_library.install(load(ServicesSettings).cache)
    asyncio.run(_serve(settings.host, settings.port, stop))
    get_logger().info(events.STOPPED)


if __name__ == "__main__":
    main()
