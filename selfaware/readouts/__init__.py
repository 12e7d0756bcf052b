"""KNOWS activations: numbers about the inside of a model and about what changing it there does. Must not know any behaviour."""
