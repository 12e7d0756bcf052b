"""KNOWS answers: from what came back to a value or the reason there is none. Must not know who answered."""
