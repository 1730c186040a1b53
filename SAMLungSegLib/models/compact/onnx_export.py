"""lung-compact's network as ONNX graphs: what `onnx_graphs` runs. Needs onnxscript, which comes with the extra `train`.

Whoever adds to the network adds a row to `graphs_of`. Written anew after every change of the network's operations, not
of its weights, by

    python -m SAMLungSegLib.models.compact.onnx_export
"""

from __future__ import annotations

import copy
import io
import json
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from segment_anything.modeling.transformer import Attention
from torch import Tensor, nn
from torch.export import Dim

from SAMLungSegLib.files import write_bytes
from SAMLungSegLib.models.compact.network import CompactNet
from SAMLungSegLib.models.compact.onnx_model import (
    BOX_FIRST,
    BOX_LAST,
    FEATURES,
    GRAPHS_FILE,
    NEGATIVE,
    NOT_A_POINT,
    POSITIVE,
)
from SAMLungSegLib.models.onnx_graphs import INDEX

OPSET = 20  # the first with Gelu
FACTS = {
    "preprocessing": {
        "image": "grey values 0 to 255 of one slice or X-ray in radiological orientation (the patient's right on the "
        "left), CT in the window -1350..150 HU; resized, antialiased bilinear, so that the longest side is that of the "
        "frame; divided by 127.5, minus 1; padded with -1 at the bottom and right; float32 (1, 1, S, S)",
        "point_coords": "XY in pixels of the frame, a pixel's centre has whole numbers; float32 (1, N, 2), N may be 0",
        "point_labels": "1 positive, 0 negative, 2 and 3 first and last corner of a box, -1 none: to be added once "
        "after points without a box; float32 (1, N)",
        "mask_input": "logits on the frame at half its resolution, float32 (1, 1, S/2, S/2)",
        "has_mask_input": "1 where there is a mask, else 0; float32 (1)",
        "visible_masks": "of whole: what the decoder predicted, all four masks",
        "corrector": "mask_input is the mask to correct, point_coords are in its pixels, which are two of the frame's; "
        "of its output, take the connected changes that hold a point and go its way",
    },
    "outputs": {
        "embedding, quarter, half, eighth, sixteenth, last": "what decoder, whole and corrector take",
        "low_res_masks": "logits (1, 4, S/2, S/2) of what was prompted (both lungs if nothing was), the patient's "
        "right lung, left lung, both lungs; drawn out by 2 they lie on the frame",
        "iou_predictions": "predicted intersection over union (1, 4) of these masks",
    },
}
_FRAME = 32 * Dim("stride", max=64)
_GRID = Dim("grid", min=4, max=256)
_LAST = Dim("last", min=2, max=64)
_POINTS = Dim("points", max=4096)
DIMENSIONS = {"32*stride": 1, "grid": 8, "2*grid": 4, "4*grid": 2, "last": 32, "2*last": 16, "4*last": 8} | {
    "8*last": 4,
    "16*last": 2,
}  # the frame's side divided by so much


@dataclass(frozen=True)
class Graph:
    """What becomes one graph of the file.

    Attributes:
        module: the computation; its parameters have the names that they have in the network.
        inputs: examples by name.
        outputs: names.
        sizes: of the inputs' axes that have no fixed one.
    """

    module: nn.Module
    inputs: Mapping[str, Tensor]
    outputs: Sequence[str]
    sizes: Mapping[str, Mapping[int, Dim]]


class Encoder(nn.Module):
    """The image encoder."""

    def __init__(self, net: CompactNet) -> None:
        super().__init__()
        self.image_encoder = net.image_encoder

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return self.image_encoder(image)


class Decoder(nn.Module):
    """A prompt encoder and a mask decoder of the network, with the inputs of SAM's own ONNX export."""

    def __init__(self, net: nn.Module, prompt_encoder: str = "prompt_encoder", mask_decoder: str = "mask_decoder"):
        super().__init__()
        self.names = (prompt_encoder, mask_decoder)
        for name in self.names:
            setattr(self, name, getattr(net, name))

    def forward(
        self,
        embedding: Tensor,
        quarter: Tensor,
        half: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
    ) -> tuple[Tensor, Tensor]:
        prompt_encoder, mask_decoder = (getattr(self, name) for name in self.names)
        grid = embedding.shape[-1]
        position_of = prompt_encoder.pe_layer._pe_encoding
        centres = (torch.arange(grid, dtype=torch.float32) + 0.5) / grid
        grid_xy = torch.stack([centres.expand(grid, grid), centres[:, None].expand(grid, grid)], -1)

        label = point_labels[..., None]
        sparse = position_of((point_coords + 0.5) / (8 * grid))
        sparse = torch.where(label == NOT_A_POINT, prompt_encoder.not_a_point_embed.weight, sparse)
        kinds = (NEGATIVE, POSITIVE, BOX_FIRST, BOX_LAST)
        for kind, one in zip(kinds, prompt_encoder.point_embeddings, strict=True):
            sparse = sparse + one.weight * (label == kind)
        without = prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
        dense = prompt_encoder.mask_downscaling(mask_input) * has_mask_input + without * (1 - has_mask_input)
        position = position_of(grid_xy).permute(2, 0, 1)[None]
        return mask_decoder.predict_all(embedding, (quarter, half), position, sparse, dense)


class Whole(nn.Module):
    """The branch for whole lungs, and what becomes of the prompted object."""

    def __init__(self, net: CompactNet) -> None:
        super().__init__()
        self.whole_branch = net.whole_branch

    def forward(
        self, quarter: Tensor, half: Tensor, eighth: Tensor, sixteenth: Tensor, last: Tensor, visible_masks: Tensor
    ) -> tuple[Tensor, Tensor]:
        return self.whole_branch((quarter, quarter, half, eighth, sixteenth, last), visible_masks)


class Correction(nn.Module):
    """The corrector."""

    def __init__(self, net: CompactNet) -> None:
        super().__init__()
        self.corrector = net.corrector

    def forward(
        self,
        embedding: Tensor,
        quarter: Tensor,
        half: Tensor,
        mask_input: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
    ) -> tuple[Tensor, Tensor]:
        return self.corrector((embedding, quarter, half), mask_input, point_coords, point_labels)


def graphs_of(net: CompactNet) -> dict[str, Graph]:
    """The graphs of the network, by name."""
    exported = prepared(net)
    side = int(net.input_size)
    found = dict(zip(FEATURES, net.image_encoder(torch.zeros(1, 1, side, side)), strict=True))
    features = {name: found[name] for name in FEATURES[:3]}
    deep = {name: found[name] for name in FEATURES[1:]}
    prompts = {
        "point_coords": torch.zeros(1, 3, 2),
        "point_labels": torch.ones(1, 3),
        "mask_input": torch.zeros(1, 1, side // 2, side // 2),
        "has_mask_input": torch.ones(1),
    }
    sizes = {
        "embedding": {2: _GRID, 3: _GRID},
        "quarter": {2: 2 * _GRID, 3: 2 * _GRID},
        "half": {2: 4 * _GRID, 3: 4 * _GRID},
        "point_coords": {1: _POINTS},
        "point_labels": {1: _POINTS},
        "mask_input": {2: 4 * _GRID, 3: 4 * _GRID},
        "has_mask_input": {},
    }
    times = {"embedding": 4, "quarter": 8, "half": 16, "eighth": 4, "sixteenth": 2, "last": 1}
    times |= {"mask_input": 16, "visible_masks": 16}
    branch_sizes = {name: {axis: count * _LAST for axis in (2, 3)} for name, count in times.items()}
    branch_sizes |= {name: sizes[name] for name in ("point_coords", "point_labels")}
    image = {"image": torch.zeros(1, 1, side, side)}
    decoded = ("low_res_masks", "iou_predictions")
    return {
        "encoder": Graph(Encoder(exported), image, FEATURES, {"image": {2: _FRAME, 3: _FRAME}}),
        "decoder": Graph(Decoder(exported), features | prompts, decoded, sizes),
        "whole": Graph(
            Whole(exported), deep | {"visible_masks": torch.zeros(1, 4, side // 2, side // 2)}, decoded, branch_sizes
        ),
        "corrector": Graph(
            Correction(exported),
            features | {name: prompts[name] for name in ("mask_input", "point_coords", "point_labels")},
            decoded,
            branch_sizes,
        ),
    }


def prepared(net: nn.Module) -> nn.Module:
    """A copy for inference in which attention between few tokens and the image is reckoned as it is quick in ONNX."""
    net = copy.deepcopy(net).eval().requires_grad_(False)
    for parent in list(net.modules()):
        for name, child in parent.named_children():
            if isinstance(child, Attention) and name != "self_attn":
                setattr(parent, name, FewTokensAttention(child, queries_are_few="token_to_image" in name))
    return net


class FewTokensAttention(nn.Module):
    """SAM's attention between an image and few tokens: the image is neither projected nor split into heads.

    Each head of each token becomes a row of its own, with zeros where other heads are, and takes the image's projection
    in: (q W_q) k = q (W_q k). The same numbers to rounding, in two thirds of ONNX Runtime's time.
    """

    def __init__(self, attention: Attention, *, queries_are_few: bool) -> None:
        super().__init__()
        self.q_proj, self.k_proj = attention.q_proj, attention.k_proj
        self.v_proj, self.out_proj = attention.v_proj, attention.out_proj
        self.queries_are_few = queries_are_few
        self.heads, self.width = attention.num_heads, attention.internal_dim
        self.scale = (self.width // self.heads) ** -0.5

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Tokens (1, N, C) or the image (1, P, C) as `q`, the other as `k` and `v`."""
        own = torch.eye(self.heads).repeat_interleave(self.width // self.heads, 1)  # (heads, width)
        if self.queries_are_few:
            rows = (self.q_proj(q)[:, :, None] * own).flatten(1, 2) * self.scale  # (1, N * heads, width)
            scores = rows @ self.k_proj.weight @ k.transpose(1, 2)  # the bias adds the same to all of a row
            mixed = self.v_proj(torch.softmax(scores, -1) @ v)
            return self.out_proj((mixed.unflatten(1, (-1, self.heads)) * own).sum(2))
        rows = (self.k_proj(k)[:, None] * own[:, None]).flatten(1, 2) * self.scale  # (1, heads * N, width)
        scores = q @ (rows @ self.q_proj.weight).transpose(1, 2) + (rows @ self.q_proj.bias)[:, None]
        shares = torch.softmax(scores.unflatten(2, (self.heads, -1)), -1).flatten(2)
        values = (self.v_proj(v)[:, None] * own[:, None]).flatten(1, 2)
        return shares @ (values @ self.out_proj.weight.T) + self.out_proj.bias


def graphs_file(net: CompactNet) -> bytes:
    """The file of graphs of a network: the same bytes for the same operations, whatever the weights."""
    content = io.BytesIO()
    weights = {}
    with zipfile.ZipFile(content, "w") as archive:
        for name, graph in graphs_of(net).items():
            model = _exported(graph)
            weights[name] = _take_weights_out(model, net.state_dict())
            _store(archive, f"{name}.onnx", model.SerializeToString(deterministic=True))
        state = {name: (list(one.shape), str(one.numpy().dtype)) for name, one in net.state_dict().items()}
        index = {"weights": weights, "dimensions": DIMENSIONS, "state": state, "facts": FACTS}
        _store(archive, INDEX, json.dumps(index, indent=1).encode())
    return content.getvalue()


def _exported(graph: Graph) -> onnx.ModelProto:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph.module.eval(),
            tuple(graph.inputs.values()),
            dynamo=True,
            opset_version=OPSET,
            optimize=False,  # ONNX Runtime does, when it has the weights
            verbose=False,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_shapes=tuple(dict(graph.sizes[name]) for name in graph.inputs),
        )
    return program.model_proto


def _take_weights_out(model: onnx.ModelProto, state: Mapping[str, Tensor]) -> list[str]:
    """Replace weights by names, in place, and drop what tells where in the sources each node comes from; the names."""
    graph = model.graph
    names = []
    for one in graph.initializer:
        if one.name in state:
            names.append(one.name)
            shape, kind = list(one.dims), one.data_type
            one.Clear()
            one.name, one.data_type, one.data_location = names[-1], kind, onnx.TensorProto.EXTERNAL
            one.dims.extend(shape)
            one.external_data.add(key="location", value="weights")
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    for texts in (graph.value_info, graph.metadata_props, model.metadata_props):
        del texts[:]
    return names


def _store(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name)  # of 1980, not of now
    archive.writestr(entry, content, zipfile.ZIP_DEFLATED, 9)


if __name__ == "__main__":
    target = Path(__file__).parents[3] / "Resources" / "Models" / GRAPHS_FILE
    write_bytes(graphs_file(CompactNet()), target)
    print(f"Written: {target}")
