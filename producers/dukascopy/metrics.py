"""Metrics of the history loads, by the scheme of `pipeline.core.metrics`."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

HOURS = Counter("history_hours_published", "Hours of quotes published", ["venue", "product", "status"])
QUOTES = Counter("history_quotes_published", "Quotes in these hours", ["venue", "product"])
HOURS_OPEN = Gauge("history_hours_open", "Requested hours that are not accounted for", ["venue", "product"])
LAST_POLL = Gauge("history_last_poll_timestamp_seconds", "When a poll for new hours last succeeded", ["venue"])
