"""The blocks of SAM's mask decoder with points for adapters."""

from __future__ import annotations

import torch
from segment_anything.modeling import MaskDecoder
from segment_anything.modeling.transformer import TwoWayAttentionBlock, TwoWayTransformer
from torch import Tensor, nn

from SAMLungSegLib.adapters.base import DecoderAdapter, DecoderHost
from SAMLungSegLib.models.sam.stock import is_plain


class AdaptableBlock(DecoderHost, TwoWayAttentionBlock):
    """A stock `TwoWayAttentionBlock` that calls an adapter where it has one, else its own forward.

    The names of its weights are the stock module's; the adapter's are elsewhere in the network.

    Args:
        stock: whose parts are taken over.
        output_tokens: how many tokens come before those of prompts: of IoU and masks.
    """

    def __init__(self, stock: TwoWayAttentionBlock, output_tokens: int) -> None:
        nn.Module.__init__(self)
        for name, part in stock.named_children():
            self.add_module(name, part)
        self.skip_first_layer_pe, self.output_tokens = stock.skip_first_layer_pe, output_tokens
        self.width = stock.norm1.normalized_shape[0]
        self.train(stock.training)

    def forward(self, queries: Tensor, keys: Tensor, query_pe: Tensor, key_pe: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, T, C) and image (B, H * W, C), each with its positions; for tokens these are as embedded."""
        adapter = self.adapter
        if adapter is None:
            return super().forward(queries, keys, query_pe, key_pe)
        queries = self._self_attended(queries, query_pe)
        attended = self.cross_attn_token_to_image(q=queries + query_pe, k=keys + key_pe, v=keys)
        prompt = query_pe[:, self.output_tokens :]
        queries = self.norm2(queries + adapter.on_token_attention(attended, prompt))
        queries = self.norm3(queries + adapter.on_mlp(queries, self.mlp(queries)))
        attended = self.cross_attn_image_to_token(q=keys + key_pe, k=queries + query_pe, v=queries)
        return queries, self.norm4(adapter.on_image(keys + attended))

    def watched(
        self, token: Tensor, token_pe: Tensor, queries: Tensor, keys: Tensor, query_pe: Tensor, key_pe: Tensor
    ) -> Tensor:
        """One more token (B, 1, C), which sees what goes into the block and is seen by none of it.

        Args:
            token: as it comes to this block.
            token_pe: as embedded.
            queries, keys, query_pe, key_pe: as of `forward`.
        Returns:
            (B, 1, C), as the block leaves it.
        """
        all_tokens, all_pe = torch.cat((queries, token), dim=1), torch.cat((query_pe, token_pe), dim=1)
        if self.skip_first_layer_pe:
            token = self.norm1(self.self_attn(q=token, k=all_tokens, v=all_tokens))
        else:
            attended = self.self_attn(q=token + token_pe, k=all_tokens + all_pe, v=all_tokens)
            token = self.norm1(token + attended)
        adapter = self.adapter or DecoderAdapter()
        attended = self.cross_attn_token_to_image(q=token + token_pe, k=keys + key_pe, v=keys)
        token = self.norm2(token + adapter.on_token_attention(attended, query_pe[:, self.output_tokens :]))
        return self.norm3(token + adapter.on_mlp(token, self.mlp(token)))

    def _self_attended(self, queries: Tensor, query_pe: Tensor) -> Tensor:
        if self.skip_first_layer_pe:
            return self.norm1(self.self_attn(q=queries, k=queries, v=queries))
        positioned = queries + query_pe
        return self.norm1(queries + self.self_attn(q=positioned, k=positioned, v=queries))


def make_adaptable(decoder: nn.Module) -> None:
    """Give the blocks of a mask decoder points for adapters, where it is segment_anything's own."""
    if not is_plain(decoder, MaskDecoder) or not is_plain(decoder.transformer, TwoWayTransformer):
        return
    layers = decoder.transformer.layers
    if all(is_plain(one, TwoWayAttentionBlock) for one in layers):
        for number, layer in enumerate(layers):
            layers[number] = AdaptableBlock(layer, 1 + decoder.num_mask_tokens)
