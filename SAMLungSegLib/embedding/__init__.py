"""Encode once: embeddings kept on disk, and slices encoded ahead of the person who scrolls."""

from SAMLungSegLib.embedding.ahead import SliceQueue, encode_ahead
from SAMLungSegLib.embedding.cache import CacheSize, EmbeddingCache, embeddings_folder
from SAMLungSegLib.embedding.cached import CachedModel, cached

__all__ = [
    "CacheSize",
    "CachedModel",
    "EmbeddingCache",
    "SliceQueue",
    "cached",
    "embeddings_folder",
    "encode_ahead",
]
