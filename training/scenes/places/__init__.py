"""Painters of the places, one module per place. Each painter paints the land over a finished sky."""
