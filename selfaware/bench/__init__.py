"""KNOWS time and work: how long the same thing takes here and elsewhere, and how far from the machine's limit. Must not know any claim."""
