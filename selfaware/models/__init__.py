"""KNOWS weights: where they come from, how text becomes token ids, what a forward pass gives. Must not know any behaviour."""
