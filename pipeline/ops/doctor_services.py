"""The doctor's checks of the broker and the venues."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import requests

import schemas
from pipeline.broker.admin import Admin
from pipeline.broker.bootstrap import wrong_policies
from pipeline.broker.client import new_client
from pipeline.broker.topics import NAMESPACES
from pipeline.core.errors import PipelineError, Refused, Unavailable
from pipeline.core.settings import PulsarSettings, load
from pipeline.services import demo, local_http
from venues.dukascopy.settings import DukascopySettings
from venues.registry import adapters

CLOCK_OFF_S = 2.0  # by the `Date` of an answer, which is a whole second
LIVE_CLOCK_OFF_S = 1.0  # by the times in a venue's frames
ANSWER_WITHIN_S = 8.0


@dataclass(frozen=True)
class Finding:
    """The result of a check. `verdict`: ok, warning or failed; `advice`: what to do."""

    what: str
    verdict: str
    text: str
    advice: str = ""


def ok(what: str, text: str) -> Finding:
    return Finding(what, "ok", text)


def broker() -> Iterator[Finding]:
    """Check health, namespaces, policies, schemas and a client's connection."""
    chosen = load(PulsarSettings)
    admin = Admin(chosen)
    start = "start it (scripts/start)" if chosen.private else "check PULSAR_URL and PULSAR_ADMIN_URL"
    try:
        if not admin.healthy():
            raise Unavailable("not ready yet")
    except PipelineError as error:
        yield Finding("broker", "failed", str(error), start)
        return
    client = new_client(chosen)
    try:
        client.get_topic_partitions(f"persistent://{chosen.tenant}/control/gaps")
        yield ok("broker", f"answers at {chosen.service_url} and {chosen.admin}")
    except Exception as error:
        yield Finding(
            "broker",
            "failed",
            f"the admin interface answers, but {chosen.service_url} does not: {error}",
            "check PULSAR_URL",
        )
    finally:
        client.close()
    yield from _policies(admin, chosen.tenant)
    yield from _schemas(admin, chosen.tenant)


def _policies(admin: Admin, tenant: str) -> Iterator[Finding]:
    advice = "run python -m pipeline.bootstrap; on a shared cluster, ask its administrator"
    try:
        there = set(admin.namespaces(tenant))
        missing = [space.name for space in NAMESPACES if space.name not in there]
        if missing:
            yield Finding("policies", "failed", f"namespaces are missing: {', '.join(missing)}", advice)
            return
        wrong = [
            policy.what
            for space in NAMESPACES
            for policy in wrong_policies(space, admin.policies(f"{tenant}/{space.name}") or {})
        ]
    except Refused as error:
        yield Finding("policies", "failed", str(error), advice)
        return
    except Unavailable as error:
        yield Finding("policies", "warning", str(error), "try again")
        return
    if wrong:
        yield Finding("policies", "warning", "; ".join(wrong[:4]), advice)
    else:
        yield ok("policies", f"{len(NAMESPACES)} namespaces of tenant {tenant} with correct policies")


def _schemas(admin: Admin, tenant: str) -> Iterator[Finding]:
    """Check that each topic's newest schema is this version's."""
    seen, differ = 0, []
    for space in NAMESPACES:
        if space.schema is None:
            continue
        for topic in admin.topics(f"{tenant}/{space.name}"):
            registered = admin.schema(topic)
            if registered is None:
                continue
            seen += 1
            if json.loads(registered)["fields"] != schemas.definition(space.schema)["fields"]:
                differ.append(topic.removeprefix("persistent://"))
    if differ:
        text = f"{len(differ)} topics have a different schema than this version: {', '.join(differ[:3])}"
        yield Finding("schemas", "warning", text, "harmless during an upgrade; restart the older programs afterwards")
    else:
        yield ok("schemas", f"{seen} topics carry the schemas of this version")


def venues() -> Iterator[Finding]:
    """Check that each enabled venue's REST interface answers, and that its clock agrees with ours."""
    live = [(one, load(one.settings)) for one in adapters().values()]
    asked = [(one.title, one.alive(its), f"{one.name.upper()}_REST_URL") for one, its in live if its.enabled]
    dukascopy = load(DukascopySettings)
    if dukascopy.enabled and dukascopy.feed in ("auto", "json"):
        asked.append(("Dukascopy JSON", f"{dukascopy.json_url}/instruments", "DUKASCOPY_JSON_URL"))
    if dukascopy.enabled and dukascopy.feed in ("auto", "bi5"):
        asked.append(("Dukascopy bi5", f"{dukascopy.bi5_url}/EURUSD/2019/01/04/10h_ticks.bi5", "DUKASCOPY_BI5_URL"))
    offsets = []
    with ThreadPoolExecutor(4) as pool:
        for (name, _url, setting), (status, offset) in zip(
            asked, pool.map(_request, [one[1] for one in asked]), strict=True
        ):
            host = urlsplit(_url).netloc
            if status is None:
                advice = f"check the network, firewall and {setting}; data missed meanwhile are fetched later"
                yield Finding("venues", "warning", f"{name} ({host}) does not answer", advice)
            elif status in (403, 451):
                yield Finding(
                    "venues",
                    "warning",
                    f"{name} ({host}) refuses requests from this IP address: {status}",
                    "the venue may not serve your country or data centre",
                )
            elif status == 429:
                yield Finding(
                    "venues",
                    "warning",
                    f"{name} ({host}) reports too many requests",
                    "wait a minute; is another program using this IP address?",
                )
            elif status >= 500:
                yield Finding(
                    "venues",
                    "warning",
                    f"{name} ({host}) has a server error: {status}",
                    "wait; gaps are filled automatically",
                )
            else:
                yield ok("venues", f"{name} ({host}) answers")
                if offset is not None:
                    offsets.append(offset)
    yield from _clock(offsets)


def _request(url: str) -> tuple[int | None, float | None]:
    """Return the status, and how far our clock is ahead of the answer's `Date`, in seconds, assuming half the round
    trip."""
    began = time.time()
    try:
        answer = requests.get(url, timeout=ANSWER_WITHIN_S, headers={"User-Agent": "market-data doctor"}, stream=True)
        answer.close()
    except requests.RequestException:
        return None, None
    middle = (began + time.time()) / 2
    try:
        return answer.status_code, middle - (parsedate_to_datetime(answer.headers["Date"]).timestamp() + 0.5)
    except (KeyError, ValueError):
        return answer.status_code, None


def _clock(offsets: list[float]) -> Iterator[Finding]:
    if not offsets:
        yield Finding(
            "clock", "warning", "no venue's clock to compare with", "check that the time is synchronised (timedatectl)"
        )
        return
    off = sorted(offsets)[len(offsets) // 2]
    if abs(off) > CLOCK_OFF_S:
        text = f"ours is {abs(off):.1f} s {'ahead of' if off > 0 else 'behind'} the venues'"
        advice = "switch time synchronisation on (timedatectl set-ntp true): trades a minute ahead are refused"
        yield Finding("clock", "failed" if abs(off) > 55 else "warning", text, advice)
    else:
        yield ok("clock", "agrees with the venues'")


def live_clocks() -> Iterator[Finding]:
    """Check each venue's clock offset as measured by its running program."""
    for one in demo.programs().values():
        if not one.enabled or not one.port:
            continue
        try:
            health = local_http.ask(f"http://127.0.0.1:{one.port}/health", ANSWER_WITHIN_S).json()
        except (requests.RequestException, ValueError):
            continue  # not running, which scripts/status reports
        yield from clock_of(one.name, health)


def clock_of(name: str, health: object) -> Iterator[Finding]:
    """Check the clock offset in one program's `/health`."""
    offset = health.get("clock_offset_s") if isinstance(health, dict) else None
    if isinstance(offset, bool) or not isinstance(offset, int | float) or not math.isfinite(offset):
        return
    text = f"{name}: the venue's clock is {abs(offset):.2f} s {'ahead of' if offset > 0 else 'behind'} ours"
    if abs(offset) > LIVE_CLOCK_OFF_S:
        advice = "switch time synchronisation on (timedatectl set-ntp true); if it is on, the venue's clock is wrong"
        yield Finding("clock", "warning", text, advice)
    else:
        yield ok("clock", text)
