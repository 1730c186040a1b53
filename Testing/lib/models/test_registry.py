"""The list of models."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models import registry
from SAMLungSegLib.models.registry import MODELS, bundled_file, model_spec, models_folder


def test_the_models_have_the_names_that_the_documentation_uses():
    assert list(MODELS) == ["lung-compact", "sam-vit-b", "sam-vit-l", "sam-vit-h", "sam-vit-tiny", "medsam-vit-b"]
    assert all(spec.name == name for name, spec in MODELS.items())


def test_an_unknown_model_is_refused_with_the_names_there_are():
    with pytest.raises(ModelError, match=r"no model 'sam-vit-x'; choose one of lung-compact, sam-vit-b, .*medsam"):
        model_spec("sam-vit-x")


@pytest.mark.parametrize("spec", [spec for spec in MODELS.values() if spec.url], ids=lambda spec: spec.name)
def test_a_model_to_download_has_a_secure_address_a_size_and_a_hash(spec):
    assert spec.url.startswith("https://")
    assert spec.url.endswith(f"/{spec.file_name}")
    assert spec.size_bytes > 300e6
    assert re.fullmatch(r"[0-9a-f]{64}", spec.sha256)
    assert spec.licence


def test_hashes_of_different_models_differ():
    hashes = [spec.sha256 for spec in MODELS.values() if spec.url]
    assert len(set(hashes)) == len(hashes) == 4


def test_listing_models_imports_neither_torch_nor_segment_anything():
    code = (
        "import sys, SAMLungSegLib.models.registry, SAMLungSegLib.models.checkpoints\n"
        "print([m for m in ('torch', 'segment_anything') if m in sys.modules])"
    )
    root = Path(registry.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_cache_folder_follows_the_environment_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("SAMLUNGSEG_CACHE", str(tmp_path))
    assert models_folder() == tmp_path / "models"
    monkeypatch.delenv("SAMLUNGSEG_CACHE")
    assert models_folder().parts[-1] == "models"
    assert "SAMLungSeg" in models_folder().parts


@pytest.mark.parametrize("place", ["SAMLungSegLib/_resources/Models", "Resources/Models"])
def test_bundled_files_are_found_in_a_wheel_and_in_a_checkout(monkeypatch, tmp_path, place):
    monkeypatch.setattr(registry, "__file__", str(tmp_path / "SAMLungSegLib" / "models" / "registry.py"))
    expected = tmp_path / place / "net.safetensors"
    expected.parent.mkdir(parents=True)
    expected.touch()
    assert bundled_file("net.safetensors") == expected


def test_a_missing_bundled_file_is_reported_with_the_places_searched(monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "__file__", str(tmp_path / "SAMLungSegLib" / "models" / "registry.py"))
    with pytest.raises(ModelError, match=r"net\.safetensors is missing .*_resources.* and .*Resources.*install"):
        bundled_file("net.safetensors")


def test_the_compact_model_takes_hash_size_and_licence_from_its_card(monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "_bundled_folders", lambda: (tmp_path,))
    card = {"sha256": "ab" * 32, "size_bytes": 12, "licence": "Apache-2.0"}
    (tmp_path / "lung-compact.json").write_text(json.dumps(card))
    spec = registry._compact_spec()
    assert (spec.sha256, spec.size_bytes, spec.licence) == ("ab" * 32, 12, "Apache-2.0")
    assert spec.is_bundled


@pytest.mark.parametrize("text", [None, "{not json", "[1]"])
def test_an_absent_or_damaged_card_does_not_break_the_registry(monkeypatch, tmp_path, text):
    monkeypatch.setattr(registry, "_bundled_folders", lambda: (tmp_path,))
    if text is not None:
        (tmp_path / "lung-compact.json").write_text(text)
    assert registry._compact_spec().sha256 is None
