"""The quality study: clicks, predicted overlap, corrupted images."""
