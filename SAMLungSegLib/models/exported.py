"""A model as ONNX files for other programs: each graph with its weights, and in its metadata how to use it."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.files import writable_folder, write_together
from SAMLungSegLib.models import load_model, model_spec
from SAMLungSegLib.models.checkpoints import checkpoint_path, file_sha256
from SAMLungSegLib.models.compact.onnx_model import GRAPHS_FILE, CompactOnnxModel
from SAMLungSegLib.models.engines import WITH_GRAPHS
from SAMLungSegLib.models.onnx_graphs import bundled_graphs
from SAMLungSegLib.models.tuned import TunedModel, read_card


def save_onnx(folder: Path, name: str = "lung-compact", *, weights: Path | None = None) -> list[Path]:
    """Write `<name>_encoder.onnx`, `<name>_decoder.onnx` and whatever other graphs there are.

    Their metadata says how images and prompts are prepared and what comes out, with the SHA-256 of the weights, and of
    tuned ones the threshold and the prompts, which are not in the graphs.

    Args:
        folder: made if it is not there; files in it are replaced.
        name: of the registry.
        weights: of the user's, in place of the registry's or on top of them.
    Returns:
        Paths of the files.
    Raises:
        ModelError: as `load_model`, or the model has no graphs.
        OutputError: the files cannot be written.
    """
    spec = model_spec(name)
    if spec.family not in WITH_GRAPHS:
        raise ModelError(f"Model {name} is not exported here, lung-compact is; others have tools of their own for it.")
    model = load_model(name, weights=weights, device="cpu", engine="onnx")
    network = cast(CompactOnnxModel, model.model if isinstance(model, TunedModel) else model)
    graphs = bundled_graphs(GRAPHS_FILE)
    card = None if weights is None else read_card(weights)
    facts = {
        "model": name,
        "licence": spec.licence,
        "weights_sha256": file_sha256(weights or checkpoint_path(spec)),
        "frame": network.frame_size,
        **graphs.facts,
        **({} if card is None else {key: card.to_fields()[key] for key in ("threshold", "prompts")}),
    }
    contents = {
        folder / f"{name}_{graph}.onnx": graphs.with_weights(graph, network.state, network.frame_size, facts)
        for graph in graphs.fitting(network.state)
    }
    writable_folder(folder)
    write_together(contents)
    return list(contents)
