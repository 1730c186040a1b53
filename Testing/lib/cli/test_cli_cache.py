"""`samlungseg cache` and what `segment` keeps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from SAMLungSegLib import models
from SAMLungSegLib.cli import main
from SAMLungSegLib.models import load_model
from SAMLungSegLib.models.choice import forget_models
from SAMLungSegLib.models.embedding_cache import EmbeddingCache
from SAMLungSegLib.phantom import chest_ct


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> EmbeddingCache:
    """An empty cache, and a model that is worth one (lung-compact taken for slow)."""
    monkeypatch.setenv("SAMLUNGSEG_CACHE", str(tmp_path / "cache"))
    slow = load_model(device="cpu")
    slow.capabilities = replace(slow.capabilities, encodes_slowly=True)
    monkeypatch.setattr(models, "load_model", lambda *arguments, **options: slow)
    forget_models()
    yield EmbeddingCache()
    forget_models()


@pytest.fixture
def scan(tmp_path) -> str:
    phantom = chest_ct(seed=0, size_kji=(4, 96, 96), spacing_mm=(70.0, 4.0, 4.0))
    image = sitk.GetImageFromArray(phantom.hu_kji)
    image.SetSpacing((4, 4, 70))
    path = str(tmp_path / "scan.nii.gz")
    sitk.WriteImage(image, path)
    return path


def test_filling_the_cache_spares_segment_the_encoding(scan, tmp_path, cache, capsys, monkeypatch):
    assert main(["cache", "fill", scan, "--device", "cpu"]) == 0
    assert "4 slices" in capsys.readouterr().out
    monkeypatch.setattr(models.load_model(), "encode", lambda slices: pytest.fail("a slice was encoded again"))
    assert main(["segment", scan, "-o", str(tmp_path / "out")]) == 0


def test_segment_keeps_embeddings_unless_told_not_to(scan, tmp_path, cache):
    assert main(["segment", scan, "-o", str(tmp_path / "first"), "--no-cache"]) == 0
    assert cache.size().slices == 0
    assert main(["segment", scan, "-o", str(tmp_path / "second")]) == 0
    assert cache.size().slices == 4
    first, second = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / run / "scan_lungs.seg.nrrd")))
        for run in ("first", "second")
    )
    assert np.mean(first != second) < 1e-3  # float16 embeddings


def test_size_and_clear_say_how_much_and_where(scan, cache, capsys):
    assert main(["cache", "fill", scan]) == 0
    capsys.readouterr()
    assert main(["cache", "clear"]) == 0
    assert f"4 slices, 8 MB deleted from {cache.folder}" in capsys.readouterr().out
    assert main(["cache", "size"]) == 0
    assert "0 slices, 0 MB" in capsys.readouterr().out


def test_a_model_that_needs_no_cache_is_told(scan, capsys, monkeypatch):
    model = models.load_model()
    monkeypatch.setattr(model, "capabilities", replace(model.capabilities, encodes_slowly=False))
    assert main(["cache", "fill", scan, "--model", "lung-compact"]) == 2
    assert "encodes as fast as a disk reads" in capsys.readouterr().err
