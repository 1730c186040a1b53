"""The zero-shot paper: prompts computed from the reference."""
