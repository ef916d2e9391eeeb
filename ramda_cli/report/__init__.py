"""The report of a run: a JSON document, where it is stored, and how it looks in a terminal."""
