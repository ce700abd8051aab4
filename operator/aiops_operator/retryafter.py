"""The header Retry-After of an answer: for how long who sent it asks not to be asked again. Pure, no I/O."""


def seconds(header: str, longest: float) -> float | None:
    """The header in seconds, `longest` at most; None where it is missing, malformed, or a date.

    A date is not looked at, for clocks that disagree would make nonsense of it.
    """
    return min(float(header), longest) if header.isascii() and header.isdigit() else None
