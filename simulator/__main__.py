"""`python -m simulator`: serve the venues, inject faults, show counts."""

from __future__ import annotations

import asyncio
import errno
import json
import sys
import urllib.error
import urllib.request
from typing import Any

import click

from simulator.config import Config, ConfigError
from simulator.faults import KINDS
from simulator.venues import listings

PORT = click.option("--port", type=int, default=8900, envvar="SIMULATOR_PORT", show_envvar=True, show_default=True)


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
def main(context: click.Context) -> None:
    """Local exchanges on 127.0.0.1, over real sockets and with faults on command."""
    if context.invoked_subcommand is None:
        context.invoke(serve)


@main.command()
@PORT
@click.option("--seed", type=int, help="Seed of the market.")
@click.option("--config", type=click.Path(dir_okay=False), help="JSON file with fields of simulator.config.Config.")
@click.option("--set", "settings", multiple=True, metavar="NAME=JSON", help="A setting: rate_scale=2; repeatable.")
@click.option("--dukascopy-folder", help="Folder of SYM/YYYY/MM/DD/HHh_ticks.bi5.")
@click.option("--synthesize-hours", type=int, help="Generate this many recent Dukascopy hours.")
@click.option("--clock-offset", "clock_offset_s", type=float, help="Seconds the tape is ahead (< 0: behind).")
@click.option("--coinbase-public-key", help="PEM file of the ES256 key that signs Coinbase tokens.")
def serve(port: int = 8900, config: str | None = None, settings: tuple[str, ...] = (), **changes: Any) -> None:
    """Serve all venues on one port until stopped (port 0: a free one; the first line says which)."""
    from simulator.server import serve as run

    for setting in settings:
        name, _, value = setting.partition("=")
        try:
            changes[name] = json.loads(value)
        except ValueError:
            changes[name] = value
    try:
        asyncio.run(run(Config.load(config, port=port, **changes)))
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise click.UsageError(f"Port {port} is taken; give another with --port.") from None


def call(port: int, path: str, body: dict[str, Any] | None = None) -> Any:
    """Send a request to the running simulator; raises `click.ClickException` if it is not running or refuses."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        raise click.UsageError(json.load(error)["error"]) from None
    except OSError:
        raise click.ClickException(f"No simulator answers on port {port}; start it, or give its --port.") from None


@main.command(
    help="Inject a fault that ends by itself: `fault cut --venue kraken`.\n\nKIND is one of " + ", ".join(KINDS) + "."
)
@click.argument("kind", metavar="KIND", type=click.Choice(KINDS))
@click.option("--venue", type=click.Choice(list(listings())), required=True)
@click.option("--seconds", type=float, help="Duration (default 10 if no count is given).")
@click.option("--count", type=int, help="Number of frames, responses, ids or trades.")
@click.option("--probability", type=float, help="Probability for each frame or response.")
@click.option("--product", "products", multiple=True, help="Only this product; repeatable.")
@click.option("--endpoint", help="Only paths or channels that contain this.")
@click.option("--option", "more", multiple=True, metavar="NAME=JSON", help="refuse_for=5, stall=30, lag=5 …")
@PORT
def fault(kind: str, port: int, more: tuple[str, ...], **options: Any) -> None:
    body = {"kind": kind} | {name: value for name, value in options.items() if value not in (None, ())}
    for option in more:
        name, _, value = option.partition("=")
        try:
            body[name] = json.loads(value)
        except ValueError:
            body[name] = value
    click.echo(json.dumps(call(port, "/control/fault", body)))


@main.command()
@PORT
def clear(port: int) -> None:
    """End all faults."""
    call(port, "/control/clear", {})
    click.echo("No fault is active.")


@main.command()
@PORT
def stats(port: int) -> None:
    """Requests, refusals, peaks and violations per venue and endpoint."""
    click.echo(json.dumps(call(port, "/control/stats"), indent=2))


if __name__ == "__main__":
    sys.exit(main())
