"""How programs of one language are compiled, run and asked; one file a language."""
