"""A checkout in a folder of any name runs, or says in one sentence why it does not, before anything starts."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from supervisor.options import ServerOptions

from pipeline.core.errors import WrongUse
from pipeline.core.settings import PROJECT
from pipeline.services import conf, layout
from pipeline.services.place import LONGEST, check_place

ODD = [
    "a b %c",
    "per%(here)scent",
    "quo'te",
    "\u00fcn\u00efcode \u65e5",
    "a#b",
    "(x) [y] {z} & <w>",
    "a;b",
    "-a",
    "*?",
]


@pytest.mark.parametrize("name", ODD)
def test_supervisord_starts_the_programs_of_an_oddly_named_folder(tmp_path: Path, name: str) -> None:
    """Prevents a path that is taken apart at its blanks, or a % that is taken for a name."""
    folder = tmp_path / name
    (folder / ".services").mkdir(parents=True)
    (folder / "supervisord.conf").write_text((PROJECT / "supervisord.conf").read_text())
    options = ServerOptions()
    options.realize(["-c", str(folder / "supervisord.conf"), "-n"])
    programs = [one for group in options.process_group_configs for one in group.process_configs]
    assert len(programs) > 10
    for program in programs:
        assert program.command == f"/usr/bin/env scripts/run {program.name}"
        assert program.directory == str(folder)
    assert options.server_configs[0]["file"] == f"{folder}/.services/sock"


@pytest.mark.parametrize("name", ODD)
def test_the_demo_s_configuration_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "supervisord.conf").write_text((PROJECT / "supervisord.conf").read_text())
    monkeypatch.setattr(conf, "PROJECT", folder)
    written = conf.write(folder / "demo", extra=["simulator"])
    options = ServerOptions()
    options.realize(["-c", str(written), "-n"])
    by_name = {one.name: one for group in options.process_group_configs for one in group.process_configs}
    assert by_name["simulator"].command == "/usr/bin/env scripts/run simulator"
    assert by_name["kraken"].directory == str(folder)


@pytest.mark.parametrize("name", ["a\nb", "co:lon", 'quo"te', "dol$lar", "back`tick", "semi ;colon", "x" * LONGEST])
def test_what_cannot_work_is_one_sentence(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Prevents programs that fail one after another, each in its own way."""
    monkeypatch.setattr(layout, "PROJECT", Path("/home/me") / name)
    monkeypatch.setenv("PULSAR_URL", "pulsar://broker.example:6650")
    with pytest.raises(WrongUse) as wrong:
        check_place()
    assert len(str(wrong.value).splitlines()) == 1


def test_a_private_broker_wants_a_plain_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "PROJECT", Path("/home/me/a b"))
    with pytest.raises(WrongUse, match="set PULSAR_URL"):
        check_place()
    monkeypatch.setenv("PULSAR_URL", "pulsar://broker.example:6650")
    check_place()


@pytest.mark.parametrize("name", ["new\nline", "co:lon", 'quo"te', "a ;b", "a #b"])
def test_set_up_says_so_before_it_makes_anything(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    (folder / "scripts").mkdir(parents=True)
    (folder / "scripts" / "setup").write_bytes((PROJECT / "scripts" / "setup").read_bytes())
    done = subprocess.run(["bash", str(folder / "scripts" / "setup")], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "move it to another folder" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [one.name for one in folder.iterdir()] == ["scripts"]
