"""KNOWS arms, question sets and seeds: what is compared, as cells, and their values. Must not know a claim or a figure's place."""
