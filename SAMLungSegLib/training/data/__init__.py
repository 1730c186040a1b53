"""What is learned from: cases, how they are split, what was seen before, slices with references, packs."""
