"""The effect as the Segment Editor loads it."""
