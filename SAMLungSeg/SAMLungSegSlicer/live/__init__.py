"""What happens while the user works: previews that follow the prompts, slices encoded before they are needed."""
