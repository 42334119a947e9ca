"""Types of settings. Errors are half sentences that follow the setting's name.

Values that would only fail later, with a traceback or by waiting forever for an impossible address, are refused here.
"""

from __future__ import annotations

import json
import re
import time
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import PGconn
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from pipeline.core.errors import WrongUse
from pipeline.core.moments import moment_us
from pipeline.core.products import canonical_product, short

PROJECT = Path(__file__).resolve().parents[2]
_HOST = r"(?:[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?|\[[0-9A-Fa-f:.]+\])"
_BROKERS = re.compile(rf"(pulsar(?:\+ssl)?)://({_HOST}(?::\d{{1,6}})?(?:,{_HOST}(?::\d{{1,6}})?)*)/?", re.ASCII)
_HOST_AND_PORT = re.compile(rf"{_HOST}(?::\d{{1,6}})?", re.ASCII)
_SIZE = re.compile(r"([1-9]\d{0,5})([mg])", re.ASCII | re.IGNORECASE)


def _items(value: Any) -> Any:
    """Accept a JSON list (`["BTC/USD"]`) or a comma list (`BTC/USD,ETH/USD`)."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            found = json.loads(value)
        except (ValueError, RecursionError):
            raise ValueError('is not a JSON list; write ["BTC/USD", "ETH/USD"] or BTC/USD,ETH/USD') from None
        if not all(isinstance(item, str) for item in found):
            raise ValueError('must be a list of strings; write ["BTC/USD", "ETH/USD"] or BTC/USD,ETH/USD')
        return [item.strip() for item in found if item.strip()]
    return [item.strip() for item in value.split(",") if item.strip()]


def _not_empty(items: tuple[str, ...]) -> tuple[str, ...]:
    if not items:
        raise ValueError("is empty; give at least one")
    return items


def _products(items: tuple[str, ...]) -> tuple[str, ...]:
    for item in items:
        try:
            canonical_product(item)
        except WrongUse as error:
            raise ValueError(str(error).rstrip(".")) from None
    return items


def _moment(text: str) -> str:
    """Check a time in a format of `pipeline.core.moments`; it stays text, because `7_days_ago` is relative."""
    try:
        moment_us(text, time.time_ns() // 1000, "")
    except WrongUse as error:
        raise ValueError(str(error).removeprefix(": ").rstrip(".")) from None
    return text


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


def _address(schemes: tuple[str, ...], example: str, text: str) -> str:
    """Check `scheme://host[:port][/path]`."""
    wrong = ValueError(f"is not a valid URL; write {example}")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise wrong
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:  # a port beyond 65535, an incomplete IPv6 address
        raise wrong from None
    if parts.scheme not in schemes:
        raise ValueError(f"must start with {' or '.join(f'{one}://' for one in schemes)}, for example {example}")
    place = parts.netloc.rpartition("@")[2]
    if port == 0 or not _HOST_AND_PORT.fullmatch(place):
        raise wrong
    if parts.query or parts.fragment or "?" in text or "#" in text:
        raise ValueError(f"must not contain ? or #; write it like {example}")
    return text


def _http(text: str) -> str:
    return _address(("https", "http"), "https://host.example/path", text).rstrip("/")


def _websocket(text: str) -> str:
    return _address(("wss", "ws"), "wss://host.example/path", text)


def _brokers(text: str) -> str:
    match = _BROKERS.fullmatch(text)
    if match is None:
        raise ValueError(
            "is not a broker URL; write pulsar://host:6650 or pulsar+ssl://host:6651"
            " (several: pulsar://one:6650,two:6650)"
        )
    for place in match[2].split(","):
        port = re.search(r":(\d+)$", place)
        if port and not 1 <= int(port[1]) <= 65535 and not place.endswith("]"):
            raise ValueError(f"has port {port[1]}; ports range from 1 to 65535")
    return text.rstrip("/")


_LIBPQ_NUMBERS = (
    "connect_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
)


def _conninfo(value: SecretStr) -> SecretStr:
    """Check that libpq accepts every word of a connection string; otherwise programs would wait forever."""
    text = value.get_secret_value()
    example = "write postgresql://user@host:5432/database"
    try:
        words = conninfo_to_dict(text)
    except psycopg.Error:
        # libpq's message may quote the text around the error, including a password.
        raise ValueError(f"is not a connection string; {example}") from None
    # Checked by libpq only when connecting.
    try:
        for address in str(words.get("hostaddr") or "").split(","):
            ip_address(address or "::1")
        for name in _LIBPQ_NUMBERS:
            int(words.get(name) or 0)
    except ValueError as error:
        raise ValueError(f"cannot work: {error}; {example}") from None
    # With a socket folder that does not exist, libpq checks every other word first and connects nowhere.
    hosts = max(len(str(words.get(name) or "").split(",")) for name in ("host", "hostaddr"))
    nowhere = make_conninfo(text, host=",".join(["/nonexistent"] * hosts), hostaddr="")
    attempt = PGconn.connect_start(nowhere.encode())
    said = attempt.error_message.decode(errors="replace").strip()
    attempt.finish()
    if "/nonexistent" not in said:
        raise ValueError(f"cannot work: {said.splitlines()[0]}; {example}")
    return value


def _addresses(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    example = '{"kraken": "https://api.kraken.com"}'
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        raise ValueError(f"is not a JSON object; write {example}") from None
    if not isinstance(found, dict) or not all(isinstance(one, str) for one in found.values()):
        raise ValueError(f"must be a JSON object of URLs by exchange; write {example}")
    return found


def _each_http(found: dict[str, str]) -> dict[str, str]:
    for exchange, address in found.items():
        try:
            _http(address)
        except ValueError as error:
            raise ValueError(f"{short(exchange)} {error}") from None
    return found


def _size(text: str) -> str:
    if not _SIZE.fullmatch(text):
        raise ValueError("is not a valid size; write 512m or 1g")
    return text.lower()


def _at_least(least_mb: int) -> Any:
    def check(text: str) -> str:
        if int(text[:-1]) * (1024 if text.endswith("g") else 1) < least_mb:
            raise ValueError(f"must be at least {least_mb}m")
        return text

    return AfterValidator(check)


def _folder(path: Path) -> Path:
    """Resolve a path relative to the project, not to the current folder: all processes share it."""
    try:
        found = PROJECT / path.expanduser()
    except RuntimeError:
        raise ValueError("starts with ~ of an unknown user") from None
    try:  # what cannot be created later, below a file for example, is refused now
        nearest = next(one for one in (found, *found.parents) if one.exists())
    except OSError as error:
        raise ValueError(_closed(error)) from None
    if "\0" in str(path) or not nearest.is_dir():
        raise ValueError("is not a folder")
    return found


def _file(path: Path) -> Path:
    try:
        if path.is_file():
            return path
    except OSError as error:
        raise ValueError(_closed(error)) from None
    raise ValueError("is not an existing file")


def _closed(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "is in a folder that this account cannot enter"
    return f"cannot be used ({error.strerror})"


def _place(text: str) -> str:
    """Check a folder, or a bucket with a prefix."""
    if not text.startswith("s3://"):
        return str(_folder(Path(text)))
    if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.\-]{2,62}(/[A-Za-z0-9][A-Za-z0-9._=\-]*)*/?", text):
        raise ValueError("is not a valid object storage URL; write it like s3://bucket/prefix")
    return text.rstrip("/")


def _ip(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        raise ValueError("is not an IP address; write 127.0.0.1, or 0.0.0.0 inside a container") from None


def _tenant(text: str) -> str:
    if not re.fullmatch(r"[a-zA-Z0-9_=:.\-]{1,100}", text):
        raise ValueError("is not a valid tenant; use letters, digits and _ = : . -")
    return text


Names = Annotated[tuple[str, ...], BeforeValidator(_items)]
SomeNames = Annotated[Names, AfterValidator(_not_empty)]
AnyProducts = Annotated[Names, AfterValidator(_products)]
Products = Annotated[AnyProducts, AfterValidator(_not_empty)]
Moment = Annotated[str, AfterValidator(_moment)]
Lower, Upper = BeforeValidator(_lower), BeforeValidator(_upper)
HttpUrl = Annotated[str, AfterValidator(_http)]
WebSocketUrl = Annotated[str, AfterValidator(_websocket)]
HttpUrls = Annotated[dict[str, str], BeforeValidator(_addresses), AfterValidator(_each_http)]
BrokerUrl = Annotated[str, AfterValidator(_brokers)]
ConnInfo = Annotated[SecretStr, AfterValidator(_conninfo)]
Folder = Annotated[Path, AfterValidator(_folder)]
File = Annotated[Path, AfterValidator(_file)]
Place = Annotated[str, AfterValidator(_place)]
Ip = Annotated[str, AfterValidator(_ip)]
Tenant = Annotated[str, AfterValidator(_tenant)]
Size = Annotated[str, AfterValidator(_size)]
Heap = Annotated[Size, _at_least(128)]  # the JVM starts with 128m and refuses a smaller maximum
Port = Annotated[int, Field(ge=1, le=65535)]
# Generous limits that keep sums of times within what a clock or a calendar can represent.
Seconds = Annotated[float, Field(le=604_800)]
Days = Annotated[int, Field(le=36_500)]
Rate = Annotated[float, Field(ge=0.001, le=10_000)]
