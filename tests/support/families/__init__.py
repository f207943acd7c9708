"""Tiny pipelines with random weights for every row of the family table; `cases` lists them."""
