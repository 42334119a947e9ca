"""What tests of the dashboard share."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Response

from bench.browser import chromium
from pipeline.broker import bootstrap
from pipeline.broker.client import Bus
from pipeline.core.settings import PulsarSettings, load
from tests.dashboard_help import Served, save
from tests.messages import T0_US, trade
from tests.stream_help import Venue


@contextmanager
def started(python: str, environment: dict[str, str]) -> Iterator[tuple[int, str]]:
    """Pid and address of a dashboard, a process of its own with its gate, for the length of a block."""
    command = [python, "-m", "dashboard"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            line = next(line for line in child.stdout if '"process.started"' in line)
            yield child.pid, json.loads(line)["url"]
        finally:
            child.terminate()
            assert child.wait(30) == 0


@pytest.fixture
def dashboard(
    in_env: Callable[..., None], env: Callable[..., dict[str, str]], database_url: str, python: str
) -> Iterator[tuple[int, int]]:
    """Pid and port of a dashboard of this test."""
    in_env()
    save(database_url, [trade(n, at_us=T0_US + n) for n in (1, 2)])
    with started(python, env()) as (pid, url):
        yield pid, urlsplit(url).port or 0


@pytest.fixture
def port(dashboard: tuple[int, int]) -> int:
    """The port of `dashboard`."""
    return dashboard[1]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def served(
    in_env: Callable[..., None], env: Callable[..., dict[str, str]], database_url: str, python: str
) -> Iterator[Served]:
    in_env()
    bootstrap.broker(load(PulsarSettings))
    with started(python, env()) as (_, url), closing(Bus(load(PulsarSettings), threading.Event())) as bus:
        yield Served(url, database_url, bus)


@pytest.fixture
def page(browser: Browser, served: Served, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page whose errors fail the test, and which loads nothing from elsewhere."""
    width, theme = getattr(request, "param", (1280, "light"))
    context = browser.new_context(viewport={"width": width, "height": 820}, color_scheme=theme)
    opened = context.new_page()
    wrong: list[str] = []
    refused: list[Response] = []

    def on_console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            wrong.append(f"{message.text} {message.location}")

    def on_request(asked: Request) -> None:
        if not asked.url.startswith((served.url, "data:")):
            wrong.append(f"loads {asked.url}")

    opened.on("console", on_console)
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("request", on_request)
    opened.on("response", lambda answer: refused.append(answer) if answer.status >= 400 else None)
    yield opened
    wrong += [f"{answer.url}: {answer.text()}" for answer in refused if wrong]
    context.close()
    assert not wrong


@pytest.fixture
def venue(bus: Bus, database_url: str) -> Venue:
    save(database_url, [trade(1)])
    made = Venue(bus)
    made.trades([trade(1)])
    return made
