"""The multi-organ study: organs by five kinds of prompts, before and after tuning, and how well they are named."""
