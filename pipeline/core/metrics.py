"""All metrics.

Names: `<subject>_<what>[_<unit>]`, in base units (seconds, bytes, rows), counters without the `_total` that the client
adds. Labels: `venue` (`kraken`), `product` (`BTC-USD`), `reason` or `kind` (a short constant). The five `websocket_`
and `message_` names without a venue are those of former services, kept because dashboards use them.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

VENUE_PRODUCT = ("venue", "product")

# Live connections, names of former services.
MESSAGES = Counter("websocket_messages_processed", "Frames read from the venue's WebSocket")
MESSAGES_BY_SYMBOL = Counter("websocket_messages_by_symbol", "Frames with data of a product", ["symbol"])
CONNECTION_ERRORS = Counter("websocket_connection_errors", "Connections that failed")
LAST_MESSAGE = Gauge("websocket_last_message_timestamp_seconds", "When the last frame arrived, by our clock")
PROCESSING = Histogram(
    "message_processing_seconds",
    "Time from a frame's arrival until it is passed to the broker client",
    buckets=(0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25, 1),
)

# Live connections, other metrics.
CONNECTION_UP = Gauge("connection_up", "1 while subscribed to the venue", ["venue"])
FRAMES_UNREADABLE = Counter("frames_unreadable", "Frames or elements that were dead-lettered", ["venue", "reason"])
FRAMES_UNASKED = Counter("frames_unasked", "Frames or rows of products that were not subscribed", ["venue"])
LETTERS_LOST = Counter("dead_letters_lost", "Dead letters that could not be sent", ["venue"])
CLOCK_OFFSET = Gauge("venue_clock_offset_seconds", "The venue's clock minus ours", ["venue"])
IDS_DOUBTED = Counter("trade_ids_doubted", "Trades with an id far from all others", VENUE_PRODUCT)
PRODUCT_REFUSED = Gauge("product_refused", "1 while the venue refuses the product", VENUE_PRODUCT)
PRODUCT_UNANSWERED = Gauge("product_unanswered", "1 while the venue does not answer its subscription", VENUE_PRODUCT)
SEQUENCE_MISSED = Counter("frames_missed", "Frames lost according to the venue's sequence numbers", ["venue"])
TRADES_RECEIVED = Counter("trades_received", "Trades received from the venue", [*VENUE_PRODUCT, "origin"])
TRADE_AGE_VENUE = Gauge("trade_last_timestamp_seconds", "Venue's time of the newest trade", VENUE_PRODUCT)
TRADE_AGE_OURS = Gauge(
    "trade_last_received_timestamp_seconds", "When the newest trade arrived, by our clock", VENUE_PRODUCT
)
PRODUCT_STALE = Gauge("product_stale", "1 while the stream is silent although the market moves", VENUE_PRODUCT)
PUBLISH_OVERFLOWED = Counter(
    "publish_overflowed", "Messages dropped because the broker did not accept them in time", VENUE_PRODUCT
)
PUBLISH_FAILED = Counter("publish_failed", "Messages that the broker refused", VENUE_PRODUCT)
PUBLISH_PENDING = Gauge("publish_pending_messages", "Messages not yet confirmed by the broker", ["venue"])

# Archive.
ARCHIVED_ROWS = Counter("archived_rows", "Rows that were written into the archive", ["kind"])
ARCHIVED_BYTES = Counter("archived_bytes", "Bytes of their files", ["kind"])
ARCHIVE_FAILED = Counter("archive_failed_files", "Files that could not be written or verified")

# Requests to venues.
REQUESTS = Counter("requests_sent", "Requests to a venue's REST interface", ["venue", "outcome"])
REQUEST_WAIT = Counter("requests_waited_seconds", "Time spent waiting for the rate limit", ["venue"])

# Completeness.
GAPS_OPEN = Gauge("gaps_open_ids", "Missing ids that are neither stored nor explained", VENUE_PRODUCT)
HEAD_AGE = Gauge("head_unconfirmed_seconds", "Time since the newest trade was last confirmed", VENUE_PRODUCT)
GAPS_REPAIRED = Counter("gaps_repaired_ids", "Missing ids that were published again", VENUE_PRODUCT)
GAPS_UNREPAIRABLE = Counter("gaps_unrepairable_ids", "Missing ids recorded as unrepairable", [*VENUE_PRODUCT, "reason"])
