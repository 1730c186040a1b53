"""SAM and MedSAM: Vision Transformers of segment_anything's architecture, encoded fast."""
