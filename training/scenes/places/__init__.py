"""One file a place: each paints its land below the sky that is already there."""
