"""`/health` of the supervised process, as its watchdog and the dashboard read it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from simulator.testing import running_simulator
from tests.dukascopy_help import states, writer
from tests.venue_help import running, until

Environment = Callable[..., dict[str, str]]


def test_follow_tells_the_truth_on_its_health_page(env: Environment, database_url: str, tmp_path: Path) -> None:
    """Prevents a process that is called well though no look for new hours succeeds, or ill though it works."""
    with running_simulator(synthesize_hours=240) as simulator:
        environment = env(
            **simulator.environment(),
            DUKASCOPY_FEED="json",
            DUKASCOPY_POLL_SECONDS=3,
            DUKASCOPY_MAX_RATE=100,
            DUKASCOPY_RETRY_SECONDS=0.01,
        )
        simulator.fault("404", "dukascopy", seconds=3600)  # answers everything, and has nothing
        flags = ("--follow", "--instruments", "BTCUSD", "--from", "4_hours_ago")
        with writer(environment), running("producers.dukascopy", environment, tmp_path, *flags) as follow:
            why = ["the json feed returns no quotes even for hours that have some: not believed"]
            until("the sentence", lambda: follow.health()[1]["why"] == why)
            until("503", lambda: follow.health()[0] == 503)
            assert states(database_url, "BTC-USD") == {}
            simulator.clear()
            until("hours", lambda: states(database_url, "BTC-USD").get("present", 0) >= 2)
            until("a good look", lambda: follow.health()[1]["why"] == ["all well"])
            _, body = until("health", lambda: (now := follow.health())[0] == 200 and now)
            assert (body["program"], body["ok"], body["interval_s"]) == ("dukascopy", True, 3)
            assert body["last_success_age_s"] <= 6
            assert set(body["open_hours"]) == {"BTC-USD"}

            simulator.fault("slow", "dukascopy", stall=12, count=1)  # a look that takes longer than two intervals
            until("503", lambda: follow.health()[0] == 503)
            assert simulator.faults()["struck"]["dukascopy/slow"] == 1
            until("200 again", lambda: follow.health()[0] == 200)

            simulator.fault("5xx", "dukascopy", seconds=3600)
            until("the reason", lambda: follow.health()[1]["why"] == ["the feed does not answer"])
            _, body = until("503", lambda: (now := follow.health())[0] == 503 and now)
            assert body["ok"] is False
            assert body["last_success_age_s"] >= 6
            assert follow.metric("history_last_poll_timestamp_seconds", '{venue="dukascopy"}') > 1e9
            assert follow.end() == 0
