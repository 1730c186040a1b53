"""The papers' studies on images and models of the user's: zero-shot answers to prompts from the reference."""
