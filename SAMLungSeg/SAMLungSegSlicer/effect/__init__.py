"""The Segment Editor effect 'SAM lungs': thin over the same prompts, previews and sessions as the module's panel."""
