"""Painters of the places, one module per place; each paints the land over a finished sky."""
