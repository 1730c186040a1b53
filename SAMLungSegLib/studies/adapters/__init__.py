"""The study of adaptations: all methods on the same slices, at equal steps and in equal time."""
