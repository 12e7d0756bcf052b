"""KNOWS how to change a model: what is placed where, how it is trained, kept and read. Must not know why."""
