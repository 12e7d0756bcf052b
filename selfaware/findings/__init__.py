"""KNOWS what came back: effects, profiles, cosines, shares and their figures. Must not know which experiment asks."""
