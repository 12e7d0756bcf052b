"""KNOWS claims: one file an experiment, with its claim, published numbers, arms and page. Must not know a hook, a tensor or HTML."""
