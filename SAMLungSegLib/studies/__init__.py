"""The papers' studies on images and models of the user's: zero-shot predictions from prompts from the reference."""
