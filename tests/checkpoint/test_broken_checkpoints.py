"""Every kind of damage: loading or `verify` names it in one line that says what to do."""

import json
import os
import pickle
import re
import shutil
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import torch
from safetensors.torch import load_file, save_file

from mixtralkit.checkpoint.loader import load_model
from mixtralkit.checkpoint.manifest import write_manifest
from mixtralkit.checkpoint.verify import verify
from mixtralkit.errors import MixtralKitError
from tests.checkpoint.make_checkpoints import Kind, make_checkpoint, make_tokenizer

PTH = "consolidated.00.pth"
CPU = torch.device("cpu")


class _Attack:
    """A pickle that would run a command."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch pwned",)


def _cut(path: Path, nbytes: int) -> None:
    os.truncate(path, path.stat().st_size - nbytes)


def _change(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Load, change and save again with the library of the format."""
    if path.suffix == ".safetensors":
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)
    else:
        tensors = torch.load(path, weights_only=True)
        change(tensors)
        torch.save(tensors, path)


def _set(name: str, value: torch.Tensor) -> Callable[[dict[str, torch.Tensor]], object]:
    return lambda tensors: tensors.update({name: value})


def _config(name: str, **changes: object) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        content = json.loads((folder / name).read_text()) | changes
        (folder / name).write_text(json.dumps(content))

    return change


def _header(folder: Path, change: Callable[[bytes], bytes]) -> None:
    """Rewrite the header of model.safetensors, keeping its length."""
    path = folder / "model.safetensors"
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = change(content[8 : 8 + length])
    path.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + length :])


def _lfs(folder: Path) -> None:
    for path in folder.glob("model*.safetensors"):
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4999999999\n")


def _replace_by_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("x")


def _move_down(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / PTH).rename(folder / "deep" / PTH)


def _move_all_down(folder: Path) -> None:
    files = list(folder.iterdir())
    (folder / "deep").mkdir()
    for file in files:
        file.rename(folder / "deep" / file.name)


def _swap_parts(folder: Path) -> None:
    first, second = folder / f"{PTH}-split3", folder / f"{PTH}-split4"
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


def _break_link(folder: Path) -> None:
    part = folder / f"{PTH}-split4"
    part.unlink()
    part.symlink_to("blobs/absent")


def _lose_shard_and_index(folder: Path) -> None:
    (folder / "model.safetensors.index.json").unlink()
    next(folder.glob("model-00002-of-*")).unlink()


def _other_byte_order(folder: Path) -> None:
    with zipfile.ZipFile(folder / PTH) as old, zipfile.ZipFile(folder / "new", "w") as new:
        for entry in old.infolist():
            new.writestr(entry.filename, b"big" if entry.filename.endswith("byteorder") else old.read(entry))
    (folder / "new").rename(folder / PTH)


def _double_entry(folder: Path) -> None:
    """Of two entries of one name torch reads the first and zipfile the last."""
    with warnings.catch_warnings(), zipfile.ZipFile(folder / PTH, "a") as archive:
        warnings.simplefilter("ignore", UserWarning)  # zipfile's own, of the double name
        archive.writestr(next(name for name in archive.namelist() if name.endswith("/data/0")), b"x")


def _double_name(folder: Path) -> None:
    """The library reads this without a word and takes the last."""
    _header(folder, lambda text: text.replace(b'"lm_head.weight"', b'"model.norm.weight"'))


# What is broken: the checkpoint's kind, what is done to its folder, what must be said.
BROKEN: dict[str, tuple[Kind, Callable[[Path], object], str]] = {
    "no folder": (Kind.HF, shutil.rmtree, r"does not exist"),
    "a file, not a folder": (
        Kind.HF,
        _replace_by_file,
        r"is a file; give the folder that it is in",
    ),
    "nothing in it": (
        Kind.HF,
        lambda f: (f / "model.safetensors").unlink(),
        r"has no checkpoint: .* it has config.json",
    ),
    "one folder too high": (
        Kind.MISTRAL_PTH,
        _move_down,
        r"did you mean .*deep\?",
    ),
    "a folder of folders": (
        Kind.HF_SHARDED,
        _move_all_down,
        r"has no checkpoint: .* it has no files, only deep; did you mean .*deep\?",
    ),
    "no configuration": (Kind.HF, lambda f: (f / "config.json").unlink(), r"neither params.json nor config.json"),
    "a folder in place of the configuration": (
        Kind.HF,
        lambda f: (f / "params.json").mkdir(),
        r"params.json cannot be read: Is a directory",
    ),
    "LFS pointers": (Kind.HF_SHARDED, _lfs, r"git LFS pointers .*model-00001-of-.*run 'git lfs pull'"),
    "empty part": (
        Kind.SPLIT_PTH,
        lambda f: (f / f"{PTH}-split3").write_bytes(b""),
        r"empty files: .*-split3; download",
    ),
    "missing part": (Kind.SPLIT_PTH, lambda f: (f / f"{PTH}-split4").unlink(), r"lacks consolidated.00.pth-split4"),
    "missing last part": (
        Kind.SPLIT_PTH,
        lambda f: (f / f"{PTH}-split10").unlink(),
        r"incomplete: consolidated.00.pth-split9 is truncated, or parts after it are missing",
    ),
    "part there twice": (
        Kind.SPLIT_PTH,
        lambda f: shutil.copy(f / f"{PTH}-split4", f / f"{PTH}-split04"),
        r"part 4 twice",
    ),
    "parts swapped": (
        Kind.SPLIT_PTH,
        _swap_parts,
        r"is incomplete|is damaged|has wrong bytes",
    ),
    "short part in the middle": (
        Kind.SPLIT_PTH,
        lambda f: _cut(f / f"{PTH}-split4", 100),
        r"consolidated.00.pth-split4 is damaged: it has [\d,]+ bytes, where parts of consolidated.00.pth have [\d,]+;",
    ),
    "short first part": (
        Kind.SPLIT_PTH,
        lambda f: _cut(f / f"{PTH}-split0", 100),
        r"consolidated.00.pth-split0 is damaged: it has [\d,]+ bytes, where parts of consolidated.00.pth have [\d,]+;",
    ),
    "unfinished merge": (
        Kind.SPLIT_PTH,
        lambda f: (f / PTH).write_bytes(b"PK"),
        r"2 bytes but its parts add up to .* merging was not finished",
    ),
    "truncated pth": (
        Kind.MISTRAL_PTH,
        lambda f: _cut(f / PTH, 5000),
        r"is truncated or damaged .*; download it again",
    ),
    "truncated safetensors": (
        Kind.HF,
        lambda f: _cut(f / "model.safetensors", 1),
        r"model.safetensors is truncated: it has [\d,]+ bytes of [\d,]+; download it again",
    ),
    "truncated within the header": (
        Kind.HF,
        lambda f: os.truncate(f / "model.safetensors", 100),
        r"is truncated or no safetensors file \(100 bytes\)",
    ),
    "bytes after the end": (
        Kind.HF,
        lambda f: (f / "model.safetensors").open("ab").write(b"xyz"),
        r"has 3 bytes after its last tensor",
    ),
    "a name twice in a header": (Kind.HF, _double_name, r"names model.norm.weight twice in its header"),
    "a header that is no JSON": (Kind.HF, lambda f: _header(f, lambda t: t.replace(b":", b";", 1)), r"not valid JSON"),
    "an unknown dtype": (
        Kind.HF,
        lambda f: _header(f, lambda t: t.replace(b'"F32"', b'"F99"', 1)),
        r"an unknown dtype",
    ),
    "a size that no tensor has": (
        Kind.HF,
        lambda f: _header(f, lambda t: t.replace(b"[16]", b"[1e400]", 1)),
        r"an unknown dtype or no valid place",
    ),
    "sizes whose product overflows to what it should be": (
        Kind.HF,
        lambda f: _header(f, lambda t: t.replace(b"[16]", b"[16,%d]" % (2**62 + 1), 1)),
        r"the place \d+..\d+, which does not fit",
    ),
    "a link to nothing in place of a part": (
        Kind.SPLIT_PTH,
        _break_link,
        r"lacks consolidated.00.pth-split4; download",
    ),
    "a shard missing": (
        Kind.HF_SHARDED,
        lambda f: next(f.glob("model-00002-of-*")).unlink(),
        r"index.json names files that are not there: model-00002-of-",
    ),
    "a shard missing, without index": (
        Kind.HF_SHARDED,
        _lose_shard_and_index,
        r"lacks number 2; download what is missing",
    ),
    "an index that is none": (
        Kind.HF_SHARDED,
        lambda f: (f / "model.safetensors.index.json").write_text("[]"),
        r"is not a valid index",
    ),
    "an index that points elsewhere": (
        Kind.HF_SHARDED,
        lambda f: (f / "model.safetensors.index.json").write_text('{"weight_map": {"x": "../../etc/passwd"}}'),
        r"names files that are not there: ../../etc/passwd",
    ),
    "whole and sharded": (
        Kind.HF_SHARDED,
        lambda f: (f / "model.safetensors").write_bytes(b"x"),
        r"has both model.safetensors and model-00001",
    ),
    "a date for a number": (
        Kind.MISTRAL_PTH,
        lambda f: (f / PTH).rename(f / "consolidated.20261122101500.pth"),
        r"has no checkpoint: consolidated.00.pth .* it has consolidated.20261122101500.pth, params.json",
    ),
    "numbers with a gap": (
        Kind.SEVERAL_PTH,
        lambda f: (f / PTH).unlink(),
        r"has consolidated.01.pth but lacks number 0",
    ),
    "a malicious pickle": (
        Kind.MISTRAL_PTH,
        lambda f: torch.save({"x": _Attack()}, f / PTH),
        r"refused: its pickle asks for (posix|nt)\.system",
    ),
    "a legacy pickle": (
        Kind.MISTRAL_PTH,
        lambda f: torch.save({"x": torch.ones(1)}, f / PTH, _use_new_zipfile_serialization=False),
        r"is a bare pickle",
    ),
    "a plain pickle attack": (
        Kind.MISTRAL_PTH,
        lambda f: (f / PTH).write_bytes(pickle.dumps(_Attack())),
        r"bare pickle",
    ),
    "no zip at all": (Kind.MISTRAL_PTH, lambda f: (f / PTH).write_text("<html>404</html>"), r"is no torch file"),
    "a list": (
        Kind.MISTRAL_PTH,
        lambda f: torch.save([torch.ones(1)], f / PTH),
        r"holds a list, not a dict of tensors",
    ),
    "not only tensors": (
        Kind.MISTRAL_PTH,
        lambda f: torch.save({"model": {"x": torch.ones(1)}}, f / PTH),
        r"model is a dict, not a plain tensor",
    ),
    "another model": (
        Kind.MISTRAL_PTH,
        lambda f: torch.save({"conv1.weight": torch.ones(1)}, f / PTH),
        r"not the tensors of a Mixtral: conv1.weight",
    ),
    "missing tensors": (
        Kind.HF,
        lambda f: _change(f / "model.safetensors", lambda t: t.pop("model.layers.1.self_attn.q_proj.weight")),
        r"1 missing: model.layers.1.self_attn.q_proj.weight$",
    ),
    "left-over tensors": (
        Kind.STACKED,
        lambda f: _change(f / "consolidated.01.pt", _set("layers.7.extra", torch.ones(2))),
        r"1 left over: layers.7.extra$",
    ),
    "a misshapen tensor": (
        Kind.MISTRAL_PTH,
        lambda f: _change(f / PTH, _set("norm.weight", torch.ones(3))),
        r"1 of another shape: norm.weight is \[3\], not \[16\]$",
    ),
    "a flipped bit in a table": (
        Kind.MISTRAL_PTH,
        lambda f: _flip(f / PTH, (f / PTH).read_bytes().index(b"ffn_norm")),
        r"wrong bytes in consolidated.00/data.pkl, which do not have their CRC-32",
    ),
    "an entry twice in a zip": (Kind.MISTRAL_PTH, _double_entry, r"has several entries of one name"),
    "another byte order": (Kind.MISTRAL_PTH, _other_byte_order, r"of a machine of the other byte order"),
    "quantised": (
        Kind.MISTRAL_PTH,
        lambda f: _change(f / PTH, _set("norm.weight", torch.ones(16, dtype=torch.int8))),
        r"1 not floating-point: norm.weight \(torch.int8\)$",
    ),
    "a layer less than there are": (
        Kind.MISTRAL_PTH,
        _config("params.json", n_layers=1),
        r"19 left over: layers.1.attention.wk.weight, .* and 9 more$",
    ),
    "more experts than there are": (
        Kind.HF,
        _config("config.json", num_local_experts=6),
        r"12 missing: .*experts.4.w1.weight.* and 2 more; 2 of another shape: .*gate.weight is \[4, 16\], not \[6, ",
    ),
    "NaN in a norm": (
        Kind.MISTRAL_PTH,
        lambda f: _change(f / PTH, _set("norm.weight", torch.full((16,), float("nan")))),
        r"norm.weight holds NaN or infinity|has 16 NaN or infinite values of 16 in norm.weight",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_checkpoint_is_named(tmp_path: Path, what: str) -> None:
    """Loading refuses it (or, for parts swapped within the data, verify finds it); verify says the same."""
    kind, damage, message = BROKEN[what]
    folder = tmp_path / "checkpoint"
    make_checkpoint(folder, kind)
    damage(folder)
    problems = [str(problem) for problem in verify(folder)]
    assert any(_matches(problem, message) for problem in problems), problems
    if what != "parts swapped":
        with pytest.raises(MixtralKitError) as raised:
            load_model(folder, dtype=None, device=CPU)
        assert _matches(str(raised.value), message)


def _matches(text: str, pattern: str) -> bool:
    assert "\n" not in text, "one line"
    assert "weights_only" not in text, "never pass on torch's advice"
    return re.search(pattern, text) is not None


def test_a_refused_pickle_has_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_checkpoint(tmp_path, Kind.MISTRAL_PTH)
    torch.save({"x": _Attack()}, tmp_path / PTH)
    assert verify(tmp_path)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("kind", [Kind.MISTRAL_PTH, Kind.SPLIT_PTH, Kind.STACKED])
def test_a_flipped_bit_in_a_zip_is_found(tmp_path: Path, kind: Kind) -> None:
    """The CRC-32 finds it, and the part is named; loading cannot see it."""
    reference = make_checkpoint(tmp_path, kind)
    assert verify(tmp_path) == []
    row = reference.state_dict()["model.layers.1.mlp.experts.gate_up_proj"][2, 5].numpy().tobytes()
    victim = next(path for path in tmp_path.glob("consolidated*") if row in path.read_bytes())
    _flip(victim, victim.read_bytes().index(row))
    (problem,) = verify(tmp_path)
    assert victim.name in problem.message
    assert "CRC-32" in problem.message
    assert verify(tmp_path, deep=False) == []


def test_a_flipped_bit_in_safetensors_is_found_with_a_manifest(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, Kind.HF)
    assert write_manifest(tmp_path).name == "SHA256SUMS"
    assert verify(tmp_path) == []
    _flip(tmp_path / "model.safetensors", -100)
    (problem,) = verify(tmp_path)
    assert "model.safetensors does not have the sha256 that SHA256SUMS lists" in problem.message


def test_a_manifest_that_leaves_weights_out_is_not_taken_for_a_check(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, Kind.HF)
    manifest = write_manifest(tmp_path)
    lines = [line for line in manifest.read_text().splitlines(keepends=True) if "safetensors" not in line]
    manifest.write_text("".join(lines))
    (problem,) = verify(tmp_path)
    assert "model.safetensors is not listed in SHA256SUMS" in problem.message


def _flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_nan_deep_in_an_expert_is_found_by_verify(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, Kind.MISTRAL_PTH)
    name = "layers.1.feed_forward.experts.2.w2.weight"

    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        tensors[name][3, 4:6] = torch.tensor([float("nan"), float("-inf")])

    _change(tmp_path / PTH, spoil)
    (problem,) = verify(tmp_path)
    assert f"has 2 NaN or infinite values of 384 in {name}" in problem.message


def test_overflow_in_a_narrower_dtype_is_refused(tmp_path: Path) -> None:
    """1e5 is fine in float32 and infinite in float16."""
    make_checkpoint(tmp_path, Kind.MISTRAL_PTH)
    _change(tmp_path / PTH, _set("norm.weight", torch.full((16,), 1e5)))
    with pytest.raises(MixtralKitError, match=r"norm.weight holds NaN or infinity in torch.float16"):
        load_model(tmp_path, dtype=torch.float16, device=CPU)


def test_a_wrong_vocabulary_is_found(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, Kind.MISTRAL_PTH)
    make_tokenizer(tmp_path / "tokenizer.model", 300)
    (problem,) = verify(tmp_path, deep=False)
    assert "tokenizer.model has 300 pieces but the model's vocabulary is 61" in problem.message
    (tmp_path / "tokenizer.model").write_bytes(b"\xff\xff\xffnot a model")
    (problem,) = verify(tmp_path, deep=False)
    assert "is not a sentencepiece model" in problem.message
    (tmp_path / "tokenizer.model").write_text("version https://git-lfs.github.com/spec/v1\n")
    (problem,) = verify(tmp_path, deep=False)
    assert "tokenizer.model is a git LFS pointer" in problem.message


def test_every_damaged_file_is_named(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, Kind.HF_SHARDED)
    victims = sorted(tmp_path.glob("model-*"))[:2]
    for victim in victims:
        _cut(victim, 1)
    problems = verify(tmp_path)
    assert [victim.name in problem.message for victim, problem in zip(victims, problems, strict=True)] == [True, True]


@pytest.mark.parametrize("kind", [Kind.MISTRAL_PTH, Kind.HF])
def test_damage_in_the_tables_is_either_harmless_or_named(tmp_path: Path, kind: Kind) -> None:
    """Bytes changed at random where the tensors are described: no other error than ours gets out."""
    make_checkpoint(tmp_path, kind)
    path = tmp_path / ("model.safetensors" if kind is Kind.HF else PTH)
    good = path.read_bytes()
    random = Random(1)
    named = 0
    for _ in range(300):
        content = bytearray(good)
        content[random.randrange(6000) if random.random() < 0.7 else -random.randrange(1, 9000)] = random.randrange(256)
        path.write_bytes(content)
        try:
            load_model(tmp_path, dtype=None, device=CPU)
        except MixtralKitError as error:
            named += "\n" not in str(error)
    assert named > 60
