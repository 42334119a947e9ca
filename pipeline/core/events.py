"""Names of log events. They are an API: dashboards and tests match on these constants, never on prose."""

from __future__ import annotations

# life of a process
STARTED = "process.started"
STOPPING = "process.stopping"
STOPPED = "process.stopped"
FAILED = "process.failed"
WAITING = "process.waiting"  # for a service or a lock, named in `on`
DISABLED = "process.disabled"
LIBRARY = "process.library"  # a log message of a library

# broker and database
BROKER_RETRY = "broker.retry"
BROKER_OVERFLOW = "broker.overflow"  # memory limit reached, messages dropped: the ledger will show the gap
PUBLISH_FAILED = "broker.publish_failed"  # the broker refuses a topic; it is reopened until it works
PUBLISHED_ELSEWHERE = "broker.published_elsewhere"  # another process publishes the topic
PUBLISHER_OPENED = "broker.publisher_opened"  # reopened after a failure
PULSAR_CLIENT = "broker.client"  # a log line of the Pulsar client
TOPIC_CREATED = "broker.topic_created"
POLICY_MISSING = "broker.policy_missing"
DATABASE_RETRY = "database.retry"
MIGRATED = "database.migrated"
CHUNKS_DROPPED = "database.chunks_dropped"
CHUNKS_HELD = "database.chunks_held"  # old enough to be dropped, but not archived

# archive
ARCHIVED = "archive.archived"
ARCHIVE_CHANGED = "archive.changed"  # rows of the span changed while it was archived: again in the next round
ARCHIVE_FAILED = "archive.failed"  # nothing was committed: again in the next round
ARCHIVE_SWEPT = "archive.swept"  # files of ended versions or killed writers were removed

# writers
BATCH_STORED = "writer.batch_stored"
BATCH_SPLIT = "writer.batch_split"
DEAD_LETTER = "writer.dead_letter"
LETTERS_STUCK = "writer.letters_stuck"  # the broker does not accept dead letters; their messages are not acknowledged
TOPICS_READ = "writer.topics_read"
TOPIC_REFUSED = "writer.topic_refused"  # it cannot be subscribed to: the others are read without it
TOPIC_UNREAD = "writer.topic_unread"  # the client lost it, or it refuses no more: the writer subscribes again

# live connections
CONNECTION_STATUS = "connection.status"  # status: connecting, open, subscribed, silent, closed
SYMBOL_REFUSED = "connection.symbol_refused"
SYMBOL_UNANSWERED = "connection.symbol_unanswered"  # neither acknowledged nor refused; the others continue
ASKED_ANEW = "connection.asked_anew"  # a channel of a product whose data could not be continued
SYMBOL_ANSWERED = "connection.symbol_answered"  # after it was refused or unanswered
UNASKED = "connection.unasked"  # frames of products that were not subscribed
ID_DOUBTED = "product.id_doubted"  # a trade id far from all others: not believed without a second source
CLOCK_OFFSET = "venue.clock_offset"
PARSE_ERROR = "connection.parse_error"
TRADE_RATE = "trades.rate"
PRODUCT_QUIET = "product.quiet"
PRODUCT_STALE = "product.stale"
PRODUCT_RECOVERED = "product.recovered"
PRODUCT_RETIRED = "product.retired"  # neither configured nor streamed any more: no longer tracked
VENUE_NOTICE = "venue.notice"  # a status or error message of the venue
SEQUENCE_GAP = "connection.sequence_gap"  # frames were lost, by the venue's sequence numbers

# requests to venues
REQUEST_RETRY = "request.retry"
REQUEST_FAILED = "request.failed"
RATE_LIMIT = "rate_limit.status"

# completeness
GAP_OPENED = "gap.opened"
GAP_FILLED = "gap.filled"  # published; repaired when the ledger shows it
GAP_REPAIRED = "gap.repaired"
GAP_UNREPAIRABLE = "gap.unrepairable"
LOAD_PROGRESS = "load.progress"
LOAD_DONE = "load.done"
CANDLES_PROCESSED = "load.candles_processed"  # a product of one exchange; `text` as older services wrote it

# history
FEED_DOWN = "feed.down"
FEED_SWITCHED = "feed.switched"
HOUR_OPEN = "hour.open"  # an hour without a usable answer of the vendor: retried later
HOUR_KEPT = "hour.kept"  # a stored hour of which the vendor has nothing any more
FEED_UNPROVEN = "feed.unproven"  # no quotes even for hours that have some: its empty answers are not believed
SCALE_DIFFERS = "instrument.scale_differs"  # our price_scale is not the vendor's

# candles of exchanges
SYMBOLS_CHECKED = "symbols.checked"
SYMBOLS_LEFT_OUT = "symbols.left_out"  # on fewer exchanges than required
EXCHANGE_DOWN = "exchange.down"  # given up for this pass; the others continue
HISTORY_BEGINS = "exchange.history_begins"  # the exchange has nothing older
CONSENSUS_OTHER = "consensus.other"  # its exchanges or quorum are not those that this run asked for
CONSENSUS_MISSING = "consensus.missing"  # candles without a quorum, and the exchanges missing
