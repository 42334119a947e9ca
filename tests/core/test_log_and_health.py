"""Logs without secrets, and a health page that answers whatever is broken."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import subprocess
import threading
from pathlib import Path

import pytest
import requests

from pipeline.broker.client_log import ClientLog
from pipeline.core import log
from pipeline.core.errors import Refused, Unavailable, WrongUse
from pipeline.core.health import HealthServer
from pipeline.core.log_file import LogFile, writer
from pipeline.core.settings import PROJECT, CommonSettings


def test_a_json_line_has_the_event_and_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(CommonSettings(log_format="json"), "test")
    log.get_logger().info(
        "an.event", url="postgresql://me:hunter2@db/x", api_secret="hunter2", text="password=hunter2 x"
    )
    line = json.loads(capsys.readouterr().out)
    assert (line["event"], line["level"], line["program"]) == ("an.event", "info", "test")
    assert line["url"] == "postgresql://me:***@db/x"
    assert "hunter2" not in json.dumps(line)


def test_a_line_of_a_thread_names_its_program(capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents lines of worker threads that nobody can assign to a program."""
    log.configure(CommonSettings(log_format="json", app_name="mine"), "test")
    thread = threading.Thread(target=lambda: log.get_logger().info("an.event", key=1))
    thread.start()
    thread.join()
    line = json.loads(capsys.readouterr().out)
    assert (line["app"], line["program"], line["event"], line["key"]) == ("mine", "test", "an.event", 1)


def test_what_strangers_wrote_does_not_act_on_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents lines that a venue's text forges, colours or hides, and one that is as long as a message."""
    hostile = 'x\x1b[2J\n{"event": "forged"}\r\u2028\u202e\x9b31m\x00\ud800'
    for format_ in ("json", "console"):
        log.configure(CommonSettings(log_format=format_), "test")
        log.get_logger().warning("an.event", text=hostile, inside={"a": [hostile]}, **{"k\x1b": 1}, long="y" * 100_000)
        logging.getLogger("library").warning("a library says %s", hostile)
        out = capsys.readouterr().out
        assert len(out.splitlines()) == 2
        assert len(out) < 20_000
        if format_ == "json":
            assert out.isascii()
            assert [json.loads(line)["event"] for line in out.splitlines()] == ["an.event", "process.library"]
        else:
            plain = re.sub(r"\x1b\[\d*m", "", out)  # structlog's own colours
            assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e\ud800]", plain)


def test_an_exception_is_one_line_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(CommonSettings(log_format="json"), "test")
    try:
        raise ValueError("postgresql://me:hunter2@db/x " + "z" * 100_000 + " the end")
    except ValueError:
        log.get_logger().exception("an.event", share=float("nan"), hidden={"password": "hunter2"})
    line = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert "hunter2" not in str(line)
    assert line["exception"].endswith("the end")
    assert len(line["exception"]) < 10_000


# The client takes one logger for a whole process, so this is one of its own.
CLIENT = """
import threading
from pipeline.broker import client as bus
from pipeline.core import log
from pipeline.core.settings import CommonSettings, PulsarSettings
log.configure(CommonSettings(log_format="json"), "test")
client = bus.new_client(PulsarSettings(url="pulsar://127.0.0.1:1"))
def refused():
    try:
        client.create_producer("persistent://public/default/x")
    except Exception:
        pass
threads = [threading.Thread(target=refused) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
client.close()
"""


def test_the_pulsar_client_speaks_through_our_log(python: str) -> None:
    """Prevents plain text among JSON lines, also of many threads that speak at once, and last words that are lost."""
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    done = subprocess.run([python, "-c", CLIENT], env=environment, capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in (done.stdout + done.stderr).splitlines()]
    assert {line["event"] for line in lines} == {"broker.client"}
    assert any("Connection refused" in line["text"] and line["source"].startswith("Client") for line in lines)


def test_a_storm_of_the_pulsar_client_is_bounded_in_lines_and_memory(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(CommonSettings(log_format="json"), "test")
    ours = ClientLog()
    with Path(ours.path).open("ab") as client:
        client.write(b"2026-11-25 18:28:38.652 ERROR [14] Some:12 | " + b"\x1b[2J" + b"x" * 9000 + b"\n")
        client.write(b"a following line\n" * 100_000)
        client.flush()
        ours.poll()
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert sum(line.get("lines", 1) for line in lines) == 100_001
        assert len(lines) < 500
        assert Path(ours.path).stat().st_size == 0
        client.write(b"and on it goes\n")
        client.flush()
        ours.poll()
    assert "and on it goes" in capsys.readouterr().out


def test_a_log_file_ends_somewhere_and_loses_no_new_line(tmp_path: Path) -> None:
    file = tmp_path / "log"
    one = LogFile(file, max_bytes=1000, kept=2)
    for number in range(500):
        one.write(f"line {number}\n".encode())
    one.write(b"z" * 2500 + b"\n")  # longer than a file
    for number in range(500, 600):
        one.write(f"line {number}\n".encode())
    files = [tmp_path / "log.2", tmp_path / "log.1", file]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    assert all(f.stat().st_size <= 1000 and f.stat().st_mode & 0o777 == 0o600 for f in files)
    text = b"".join(f.read_bytes() for f in files)
    assert text.endswith(b"".join(f"line {number}\n".encode() for number in range(500, 600)))


def test_a_log_is_written_by_a_process_that_ends_with_its_last_writer(tmp_path: Path) -> None:
    """Prevents programs that wait for a reader of their output who was stopped, and lines lost at the end."""
    log_writer = writer(tmp_path / "log")
    assert log_writer.stdin is not None
    with log_writer.stdin:
        many = "for i in $(seq 20000); do echo line $i; done; printf 'the end'"
        child = subprocess.Popen(["sh", "-c", many], stdout=log_writer.stdin)
    assert os.getsid(log_writer.pid) != os.getsid(0)
    child.wait()
    assert log_writer.wait(60) == 0
    assert (tmp_path / "log").read_text() == "".join(f"line {i}\n" for i in range(1, 20001)) + "the end"


def test_a_disk_that_is_full_does_not_stop_who_writes() -> None:
    one = LogFile(Path("/dev/full"))
    one.write(b"lost\n" * 10)


def test_health_says_why_and_survives_a_broken_report() -> None:
    state = {"well": True}

    def report() -> tuple[bool, dict[str, object]]:
        if state["well"] is None:
            raise RuntimeError("the report itself is broken")
        return state["well"], {"why": "because"}

    server = HealthServer("test", 0, report)
    base = f"http://127.0.0.1:{server.port}"
    try:
        answer = requests.get(f"{base}/health", timeout=5)
        assert (answer.status_code, answer.json()) == (200, {"program": "test", "ok": True, "why": "because"})
        state["well"] = False
        assert requests.get(f"{base}/health", timeout=5).status_code == 503
        state["well"] = None  # type: ignore[assignment]
        broken = requests.get(f"{base}/health", timeout=5)
        assert (broken.status_code, broken.json()["error"]) == (503, "RuntimeError: the report itself is broken")
        assert "python_info" in requests.get(f"{base}/metrics", timeout=5).text
        assert requests.get(f"{base}/", timeout=5).status_code == 404
    finally:
        server.close()


def test_a_taken_port_is_a_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(WrongUse, match="set METRICS_BASE_PORT"):
            HealthServer("test", taken.getsockname()[1], lambda: (True, {}))


def test_errors_show_no_password_of_an_address() -> None:
    """Prevents: the password of a proxy in front of a venue in `/health`, which every account can read."""
    assert str(Unavailable("https://me:hunter2@a.example/Time: 502")) == "https://me:***@a.example/Time: 502"


def test_errors_quote_strangers_without_their_control_characters() -> None:
    """Prevents: a terminal that a venue writes to, by the reason that it gives for a refusal."""
    for kind in (WrongUse, Refused, Unavailable):
        assert str(kind("Kraken: \x1b[2Jno\r\nline\u202e\ud800")) == "Kraken: \\x1b[2Jno\\r\nline\\u202e\\ud800"
