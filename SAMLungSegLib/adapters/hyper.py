"""Med-SA's adapters in the mask decoder, the first of them conditioned on the prompt (HyP-Adpt, arXiv:2304.12620)."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from SAMLungSegLib.adapters.base import DecoderAdapter
from SAMLungSegLib.adapters.bottleneck import Bottleneck


class HyperBottleneck(nn.Module):
    """up(relu(norm(down(x) W))), W made of the prompt by two linear layers; zeros at the start.

    Args:
        width: C, of what it reads and puts out, and of the prompt.
        ratio: of its hidden width h to C.
    """

    def __init__(self, width: int, ratio: float) -> None:
        super().__init__()
        self.hidden = max(1, int(width * ratio))
        self.down, self.up = nn.Linear(width, self.hidden), nn.Linear(self.hidden, width)
        self.norm = nn.LayerNorm(self.hidden)
        self.prompt = nn.Sequential(
            nn.Linear(width, self.hidden), nn.ReLU(), nn.Linear(self.hidden, self.hidden * self.hidden)
        )
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor, prompt: Tensor) -> Tensor:
        """x (B, T, C) and the embedded prompts (B, P, C), whose mean counts, zeros where P is 0; gives (B, T, C)."""
        mean = prompt.sum(1) / max(1, prompt.shape[1])
        weights = self.prompt(mean).unflatten(-1, (self.hidden, self.hidden))
        return self.up(F.relu(self.norm(self.down(x) @ weights)))


class MedSaDecoder(DecoderAdapter):
    """Three bottlenecks of a block: of the prompt, beside the linear layers, and after the image attended to tokens.

    Args:
        width: of the decoder.
        ratio: of the bottlenecks' width to it.
        scale: of what the one beside the linear layers adds.
    """

    def __init__(self, width: int, ratio: float, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.hyper = HyperBottleneck(width, ratio)
        self.mlp, self.image = (Bottleneck(width, ratio) for _ in range(2))

    def on_token_attention(self, attended: Tensor, prompt: Tensor) -> Tensor:
        return attended + self.hyper(attended, prompt)

    def on_mlp(self, tokens: Tensor, out: Tensor) -> Tensor:
        return out + self.scale * self.mlp(tokens)

    def on_image(self, image: Tensor) -> Tensor:
        return image + self.image(image)
