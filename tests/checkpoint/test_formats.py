"""What a folder is taken for, and the digest that ranks compare."""

import shutil
from pathlib import Path

import pytest

from mixtralkit.checkpoint.formats import Form, detect, digest
from mixtralkit.checkpoint.merge_parts import merge
from tests.checkpoint.make_checkpoints import TINY, Kind, make_checkpoint, make_tokenizer

FORMS = {
    Kind.MISTRAL_PTH: (Form.MISTRAL_PTH, 1),
    Kind.SPLIT_PTH: (Form.MISTRAL_PTH, 1),
    Kind.SEVERAL_PTH: (Form.MISTRAL_PTH, 2),
    Kind.MISTRAL_SAFETENSORS: (Form.MISTRAL_SAFETENSORS, 1),
    Kind.STACKED: (Form.STACKED_PT, 3),
    Kind.HF: (Form.HF_SAFETENSORS, 1),
    Kind.HF_V5_CONFIG: (Form.HF_SAFETENSORS, 1),
    Kind.HF_SHARDED: (Form.HF_SAFETENSORS, 4),
    Kind.HF_FUSED: (Form.HF_SAFETENSORS, 1),
}


@pytest.mark.parametrize("kind", Kind)
def test_each_form_is_recognised(tmp_path: Path, kind: Kind) -> None:
    make_checkpoint(tmp_path, kind)
    found = detect(tmp_path)
    form, files = FORMS[kind]
    assert found.form is form
    assert len(found.files) == files
    assert found.config == TINY
    assert found.is_split == (kind is Kind.SPLIT_PTH)
    assert found.passed_over == ()
    assert found.size == sum(path.stat().st_size for path in tmp_path.iterdir() if path.suffix != ".json")


def test_shards_without_their_index(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, Kind.HF_SHARDED)
    before = detect(tmp_path)
    (tmp_path / "model.safetensors.index.json").unlink()
    assert detect(tmp_path) == before


def test_merged_file_is_preferred_to_its_parts(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, Kind.SPLIT_PTH)
    split = digest(detect(tmp_path))
    merge(tmp_path)
    found = detect(tmp_path)
    assert not found.is_split
    assert found.passed_over == tuple(f"consolidated.00.pth-split{number}" for number in range(11))
    assert digest(found) == split, "nodes may differ in whether they merged"


def test_a_form_that_is_whole_is_preferred_to_one_that_is_not(tmp_path: Path) -> None:
    """A half downloaded form beside a good one is passed over, and said."""
    make_checkpoint(tmp_path, Kind.HF)
    make_checkpoint(tmp_path / "x", Kind.SEVERAL_PTH)
    shutil.copy(tmp_path / "x" / "consolidated.01.pth", tmp_path)
    found = detect(tmp_path)
    assert found.form is Form.HF_SAFETENSORS
    assert "lacks number 0" in found.passed_over[0]
    shutil.copy(tmp_path / "x" / "consolidated.00.pth", tmp_path)
    assert detect(tmp_path).form is Form.MISTRAL_PTH
    assert detect(tmp_path).passed_over == ("model.safetensors",)


def test_tokenizer_is_found(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, Kind.HF)
    assert detect(tmp_path).tokenizer is None
    make_tokenizer(tmp_path / "tokenizer.model.v3", 300)
    assert detect(tmp_path).tokenizer == tmp_path / "tokenizer.model.v3"
    shutil.copy(tmp_path / "tokenizer.model.v3", tmp_path / "tokenizer.model.v1")
    assert detect(tmp_path).tokenizer is None, "two and neither has the plain name"
    shutil.copy(tmp_path / "tokenizer.model.v3", tmp_path / "tokenizer.model")
    assert detect(tmp_path).tokenizer == tmp_path / "tokenizer.model"


def test_digest_tells_checkpoints_apart(tmp_path: Path) -> None:
    """Other weights of the same shape, a longer tokenizer, another theta; a copy is equal."""
    digests = []
    for number, (seed, pieces) in enumerate([(0, 300), (0, 300), (1, 300), (0, 301)]):
        folder = tmp_path / str(number)
        make_checkpoint(folder, Kind.MISTRAL_PTH, seed=seed)
        make_tokenizer(folder / "tokenizer.model", pieces)
        digests.append(digest(detect(folder)))
    params = tmp_path / "1" / "params.json"
    params.write_text(params.read_text().replace("1000000.0", "10000.0"))
    assert digests[0] == digests[1]
    assert len({*digests, digest(detect(tmp_path / "1"))}) == 4
