"""Reads headers that list alternatives with weights, as Accept does (RFC 9110, section 12.4.2)."""


def parse_quality_values(header: str) -> list[tuple[str, float]]:
    """Return (alternative, weight) in the order of preference: by weight, then as listed; names in lower case.

    Parameters other than q are dropped; a weight that cannot be read counts as 0. Weights lie in [0, 1].
    """
    found = []
    for part in header.split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        if not name:
            continue
        weight = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip().lower() == "q":
                weight = _weight(value.strip())
        found.append((name.lower(), weight))
    return sorted(found, key=lambda entry: -entry[1])


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        return 0.0
    return weight if 0 <= weight <= 1 else 0.0
