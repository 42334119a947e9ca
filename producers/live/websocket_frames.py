"""Parse WebSocket frames (RFC 6455) from a stream of bytes, bounded in size, number and time.

The library's reader blocks until it has a complete message: a byte per second, endless pings or empty fragments blocked
it, and with it every timeout and the shutdown. This one parses what is there and never blocks.
"""

from __future__ import annotations

from websocket import ABNF

from pipeline.core.errors import Unavailable

# Kraken's and Coinbase's largest frames are snapshots of some 100 kB.
MAX_MESSAGE_BYTES = 8 * 1024 * 1024
# Neither venue sends fragments; servers that do use 4 to 64 kB.
MAX_FRAGMENTS = 4096
MAX_CONTROL_BYTES = 125
# From the first byte of a message to its last.
MESSAGE_S = 20.0

_DATA = (ABNF.OPCODE_TEXT, ABNF.OPCODE_BINARY)


class FrameReader:
    """Takes bytes by `feed`, returns messages by `next`. Raises `Unavailable` if the protocol or a limit is
    violated."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0  # bytes before it are consumed
        self._parts: list[bytes] = []
        self._parts_bytes = 0
        self._begun: float | None = None  # when the incomplete message began
        self.ping: bytes | None = None  # payload of the newest unanswered ping
        self.closed: bytes | None = None  # payload of the close frame

    def feed(self, data: bytes) -> None:
        if self._at:
            del self._buffer[: self._at]
            self._at = 0
        self._buffer += data

    def next(self, now: float) -> bytes | None:
        """Return the next complete message, or None if more bytes are needed. Notes pings and the close frame."""
        while self.closed is None:
            frame = self._frame()
            if frame is None:
                self._watch(now)
                return None
            final, opcode, payload = frame
            if opcode == ABNF.OPCODE_CONT or opcode in _DATA:
                message = self._part(final, opcode, payload)
                if message is not None:
                    self._begun = None
                    return message
            elif opcode == ABNF.OPCODE_PING:
                self.ping = payload
            elif opcode == ABNF.OPCODE_CLOSE:
                self.closed = payload
            elif opcode != ABNF.OPCODE_PONG:
                raise Unavailable(f"frame with unknown opcode {opcode}")
            if self._begun is not None:
                self._watch(now)
        return None

    def _watch(self, now: float) -> None:
        if self._at == len(self._buffer) and not self._parts:
            self._begun = None
        elif self._begun is None:
            self._begun = now
        elif now - self._begun > MESSAGE_S:
            raise Unavailable(f"message incomplete after {MESSAGE_S:.0f} s")

    def _part(self, final: bool, opcode: int, payload: bytes) -> bytes | None:
        """Add a fragment; returns the message after its last one."""
        if (opcode == ABNF.OPCODE_CONT) != bool(self._parts):
            raise Unavailable("fragments of two messages are interleaved")
        if final and not self._parts:
            return payload
        self._parts.append(payload)
        self._parts_bytes += len(payload)
        if len(self._parts) > MAX_FRAGMENTS:
            raise Unavailable(f"message of more than {MAX_FRAGMENTS} fragments")
        if not final:
            return None
        message = b"".join(self._parts)
        self._parts, self._parts_bytes = [], 0
        return message

    def _frame(self) -> tuple[bool, int, bytes] | None:
        """Parse one frame into (final, opcode, payload); None if incomplete. The size is checked before reading."""
        buffer, at = self._buffer, self._at
        there = len(buffer) - at
        if there < 2:
            return None
        first, second = buffer[at], buffer[at + 1]
        if first & 0x70 or second & 0x80:
            raise Unavailable("frame with reserved bits or a mask")
        opcode, size, head = first & 0x0F, second & 0x7F, 2
        if size > MAX_CONTROL_BYTES:
            head = 4 if size == 126 else 10
            if there < head:
                return None
            size = int.from_bytes(buffer[at + 2 : at + head], "big")
        if opcode >= ABNF.OPCODE_CLOSE and (size > MAX_CONTROL_BYTES or not first & 0x80):
            raise Unavailable("control frame too long or fragmented")
        if self._parts_bytes + size > MAX_MESSAGE_BYTES:
            raise Unavailable(f"message of {self._parts_bytes + size} bytes; the limit is {MAX_MESSAGE_BYTES}")
        end = at + head + size
        if len(buffer) < end:
            return None
        self._at = end
        return bool(first & 0x80), opcode, bytes(buffer[at + head : end])
