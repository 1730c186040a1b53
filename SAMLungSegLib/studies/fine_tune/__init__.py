"""The fine-tuning paper: decoder tuning by cross-validation, beside a U-Net."""
