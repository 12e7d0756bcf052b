"""KNOWS claims: one file an experiment with its claim, published numbers, arms and page. The only room that names a model and a domain together."""
