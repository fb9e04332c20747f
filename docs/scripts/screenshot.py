"""Makes docs/images/report.png, the report of the quickstart, with Chromium.

Command: irec quickstart && python docs/scripts/screenshot.py runs/quickstart
Needs:   chromium (or the program that the variable CHROMIUM names); Pillow makes the file small

Beside the picture it writes the checksum of the page's sources, which a test compares. When the
test fails, run this script again.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
SOURCES = ROOT / "irec_jax" / "evaluation" / "page"
SIZE = (1160, 960)  # CSS pixels


def sources_sha256() -> str:
    """Returns the checksum of all files that decide how the page looks."""
    digest = hashlib.sha256()
    for path in sorted(SOURCES.rglob("*")):
        if path.suffix in {".py", ".html", ".css", ".js"}:
            digest.update(path.relative_to(SOURCES).as_posix().encode() + b"\0")
            digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


def main() -> None:
    """Takes the picture of the report of the run that is named on the command line."""
    page = Path(sys.argv[1]) / "reports" / "leave_one_out" / "index.html"
    picture = IMAGES / "report.png"
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                os.environ.get("CHROMIUM", "chromium"),
                "--headless",
                "--no-sandbox",
                "--hide-scrollbars",
                f"--user-data-dir={profile}",
                f"--window-size={SIZE[0]},{SIZE[1]}",
                f"--screenshot={picture.resolve()}",
                page.resolve().as_uri(),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )
    _shrink(picture)
    (IMAGES / "report.sha256").write_text(sources_sha256() + "\n", encoding="utf-8")
    sys.stdout.write(f"{picture}: {picture.stat().st_size:,} bytes\n")


def _shrink(picture: Path) -> None:
    """Reduces the colors to a palette of 64, where Pillow is installed."""
    try:
        from PIL import Image
    except ImportError:
        return
    with Image.open(picture) as image:
        image.convert("RGB").quantize(64).save(picture, optimize=True)


if __name__ == "__main__":
    main()
