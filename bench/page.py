"""Page: the simulated exchanges send 1,000 frames a second; how long from receiving a frame until its trades are drawn?

A headless Chromium shows the chart of one product, whose page notes the newest trade of each update
(`document.body.dataset.received`). An update counts as drawn when the second animation frame after it begins: the first
draws it. Every frame of the product counts, also one whose trades share an update with later ones.
"""

from __future__ import annotations

import time

import numpy as np

from bench.browser import chromium
from bench.environment import Figures, Ground, cpu_per, say, until
from bench.live import WARM_UP_S, frames_of, start
from pipeline.services.processes import free_ports
from simulator.testing import running_simulator

_WATCH = """
    window.drawn = [];
    new MutationObserver(() => {
      const received = Number(document.body.dataset.received);
      requestAnimationFrame(() => requestAnimationFrame(() =>
        window.drawn.push([received, (performance.timeOrigin + performance.now()) * 1000])));
    }).observe(document.body, { attributes: true, attributeFilter: ['data-received'] });
"""


def measure(ground: Ground, seconds: float = 60.0, frames_per_s: float = 1000.0) -> Figures:
    """p50, p99 and the slowest, in ms, of every frame of the shown product after the warm-up."""
    with (
        chromium() as browser,
        running_simulator(load_frames_per_s=frames_per_s) as simulator,
        ground.tables() as place,
    ):
        start(place, simulator)
        product = simulator.config.products_of("kraken")[0].canonical
        with place.connect() as conn:
            until(lambda: conn.execute("SELECT FROM trades LIMIT 1").rowcount, 60, "no trades arrived")
        port = free_ports(1)[0]
        place.start("dashboard", program="dashboard", DASHBOARD_PORT=str(port)).wait_ready()
        # What is evaluated below is not the page's own script, which is all that its policy allows.
        page = browser.new_page(viewport={"width": 1280, "height": 820}, bypass_csp=True)
        page.goto(f"http://127.0.0.1:{port}/#/chart/kraken/{product}/1m")
        page.wait_for_selector("body[data-received]", timeout=60_000)
        page.evaluate(_WATCH)
        time.sleep(WARM_UP_S)
        began_us, before = time.time_ns() // 1000, ground.cpu_seconds()
        time.sleep(seconds)
        ended_us, after = time.time_ns() // 1000, ground.cpu_seconds()
        time.sleep(1)
        drawn = np.array(page.evaluate("window.drawn"))
        name = f"kraken.{product.lower()}"
        received = np.array([at for at, _ in frames_of(place, [name])[name] if began_us <= at < ended_us])
    order = drawn[np.argsort(drawn[:, 0], kind="stable")]
    at = np.searchsorted(order[:, 0], received)
    if not len(received) or at.max() >= len(order):
        raise RuntimeError(f"trades of {product} were not drawn")
    delays = (order[at, 1] - received) / 1000
    spread = np.percentile(delays, [50, 99, 100])
    rate = len(received) / seconds
    say(f"page: {rate:,.0f} frames/s shown, p50 {spread[0]:.1f}, p99 {spread[1]:.1f}, at most {spread[2]:.1f} ms")
    return {
        "shown_frames_per_s": rate,
        "p50_ms": float(spread[0]),
        "p99_ms": float(spread[1]),
        "max_ms": float(spread[2]),
        "dashboard_core": cpu_per("s", seconds, before, after)["dashboard_us_per_s"] / 1e6,
    }
