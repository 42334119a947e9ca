"""Logs without secrets, and a health page that answers whatever is broken."""

from __future__ import annotations

import json
import socket
import threading

import pytest
import requests

from pipeline import log
from pipeline.errors import WrongUse
from pipeline.health import HealthServer
from pipeline.settings import CommonSettings


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
