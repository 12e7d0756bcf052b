"""KNOWS text: situations, options, questions about oneself, word lists, as data in one folder a domain. Must not know any model."""
