"""The image: built from the Containerfile by `buildah`, and programs started from it.

It takes three minutes and more, so it runs when it is asked for: `IMAGE_TEST_BASE=FOLDER scripts/test tests/deploy`.
The base image is made in FOLDER of the packages of Debian by `debootstrap`, unless one is there already, under the
name that the Containerfile asks for, so that no registry of images is needed. Programs run in the image's root by
`chroot`, beside the tests' own broker and database: no daemon, no network of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from pipeline.core.settings import PROJECT
from pipeline.services.cache import sha256
from pipeline.services.charts_library import SHA256, VERSION

NEEDED = ("buildah", "debootstrap", "chroot")
LACKING = [name for name in NEEDED if shutil.which(name) is None] + (["root"] if os.geteuid() else [])
pytestmark = [
    pytest.mark.skipif("IMAGE_TEST_BASE" not in os.environ, reason="only when asked for: see docs/containers.md"),
    pytest.mark.skipif(bool(LACKING), reason=f"not here: {', '.join(LACKING)}"),
    pytest.mark.timeout(1_500),
]
BASE = "python:3.11-slim-bookworm"


class Images:
    """A store of images in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        places = ["--root", str(folder / "store"), "--runroot", str(folder / "run")]
        self._tool = ["buildah", "--storage-driver=vfs", *places]

    def run(self, *arguments: str, cwd: Path = PROJECT) -> str:
        done = subprocess.run([*self._tool, *arguments], cwd=cwd, capture_output=True, text=True)
        assert done.returncode == 0, f"buildah {arguments[0]}: {(done.stdout + done.stderr)[-3000:]}"
        return done.stdout.strip()

    def base(self) -> None:
        """Import a Debian with Python as the base image."""
        root = Path(os.environ["IMAGE_TEST_BASE"])
        if not root.exists():
            packages = "--include=python3,python3-venv,ca-certificates"
            command = ["debootstrap", "--variant=minbase", packages, "bookworm", str(root)]
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout[-3000:]
        made = self.run("from", "scratch")
        self.run("add", made, str(root), "/")
        self.run("commit", "--rm", made, BASE)

    def build(self) -> str:
        """The Containerfile as it stands; pip gets this machine's settings and authorities."""
        mounts = [f"{one}:{one}:ro" for one in ("/etc/pip.conf", "/etc/ssl/certs") if Path(one).exists()]
        cache = self._folder / "cache"
        cache.mkdir()
        for kept in (Path.home() / ".cache" / "market-data-services").glob(f"lightweight-charts-{VERSION}.tgz"):
            assert sha256(kept) == SHA256
            shutil.copy(kept, cache)
        mounts.append(f"{cache}:/tmp/cache")
        flags = [flag for mount in mounts for flag in ("--volume", mount)]
        chroot = ["--isolation=chroot", "--pull=never", "--layers=false"]
        self.run("bud", *chroot, *flags, "-f", "Containerfile", "-t", "market-data", ".")
        return "market-data"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, object]]]:
    """The root of a container of the image, and the image's configuration."""
    folder = tmp_path_factory.mktemp("image")
    images = Images(folder)
    images.base()
    name = images.build()
    config = json.loads(images.run("inspect", "--type", "image", name))["OCIv1"]["config"]
    container = images.run("from", "--pull=never", name)
    root = Path(images.run("mount", container))
    yield root, config
    images.run("umount", container)
    shutil.rmtree(folder, ignore_errors=True)


def started(root: Path, config: dict[str, object], env: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    """The image's entry point, as its user, in its folder, with its environment."""
    own = dict(one.split("=", 1) for one in config["Env"])  # type: ignore[attr-defined]
    kept = {name: value for name, value in env.items() if name.startswith(("PULSAR_", "DATABASE_", "METRICS_"))}
    user, group = str(config["User"]).split(":")
    entry: list[str] = config["Entrypoint"]  # type: ignore[assignment]
    shell = f"cd {config['WorkingDir']} && exec " + " ".join([*entry, *arguments])
    return subprocess.Popen(
        [str(shutil.which("chroot")), f"--userspec={user}:{group}", str(root), "/bin/sh", "-c", shell],
        env={**own, **kept},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def health(port: int) -> bool:
    try:
        return bool(json.load(urlopen(f"http://127.0.0.1:{port}/health", timeout=5))["ok"])
    except (URLError, OSError):
        return False


def test_the_image_starts_its_programs(
    image: tuple[Path, dict[str, object]], env: Callable[..., dict[str, str]], free_port: Callable[[], int]
) -> None:
    """Prevents an image without a module, a package or a file, or that cannot write where it must."""
    from tests.dukascopy_help import until

    root, config = image
    (root / "tmp").chmod(0o1777)
    environment = env(METRICS_BASE_PORT=free_port())
    for setting, name in (("PULSAR_TOKEN_FILE", "token"), ("PULSAR_TLS_CA_FILE", "tls.pem")):
        file = root / "tmp" / name
        shutil.copy(environment[setting], file)
        file.chmod(0o444)
        environment[setting] = f"/tmp/{name}"
    base = int(environment["METRICS_BASE_PORT"])
    for offset, module in ((1, "consumers.trades"), (4, "consumers.gap_filler"), (9, "dashboard")):
        with started(root, config, environment | {"DASHBOARD_PORT": "0"}, module) as process:
            try:
                until(lambda port=base + offset: health(port) or process.poll() is not None)  # type: ignore[misc]
                assert process.poll() is None, process.stdout.read() if process.stdout else ""
            finally:
                process.terminate()
                assert process.wait(30) == 0


def test_a_wrong_setting_in_a_container_is_one_sentence(image: tuple[Path, dict[str, object]]) -> None:
    with started(*image, {"PULSAR_URL": "localhost"}, "producers.kraken") as process:
        text, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "PULSAR_URL: is not a broker URL" in text
