"""From pixels to files that others open: pictures and videos, with what made them written inside."""
