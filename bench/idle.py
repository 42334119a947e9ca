"""Idle: the processor time of every program, the broker and the database while the markets are quiet.

Everything that runs by default, and the dashboard without anybody looking at it; a trade now and then, heartbeats. No
tickers: the simulated venues send some twenty a second, however few trades there are.
"""

from __future__ import annotations

import time

from bench.environment import Figures, Ground, say
from pipeline.core.programs import PROGRAMS
from simulator.testing import running_simulator

SETTLE_S = 60.0
# Of the simulated markets' usual rates: a trade every half a minute.
QUIET = 0.01
# It restarts programs through supervisord, which does not run here.
WITHOUT = ("watchdog",)


def measure(ground: Ground, seconds: float = 60.0) -> Figures:
    """Percent of a core by part, and of all."""
    with running_simulator(rate_scale=QUIET) as simulator, ground.tables() as place:
        for one in PROGRAMS:
            if one.enabled and one.name not in WITHOUT:
                # History from before its first start would be work.
                place.start(
                    one.module,
                    *one.args,
                    program=one.name,
                    DUKASCOPY_FROM="2_hours_ago",
                    KRAKEN_TICKER="false",
                    COINBASE_CHANNELS="market_trades",
                    DASHBOARD_PORT="0",
                    **simulator.environment(),
                )
        time.sleep(SETTLE_S)
        before = ground.cpu_seconds()
        time.sleep(seconds)
        after = ground.cpu_seconds()
    shares = {name: 100 * (after[name] - before[name]) / seconds for name in before if name in after}
    total = sum(shares.values())
    say(f"idle: {total:.1f} % of a core, of it the broker {shares['broker']:.1f} %")
    return {"seconds": seconds, "all_percent": total, **{f"{name}_percent": share for name, share in shares.items()}}
