"""Parses and formats numbers of bytes, such as 3GB and 3GiB."""

import re

# Powers of 1000 and of 1024.
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}

# Spelling of prefixes in output, where it differs from upper case.
_PREFIXES = {"K": "k"}


def parse_size(text: str) -> int:
    """Returns the bytes of a text such as 3GB, 1.5 GiB or 800000000.

    Raises:
        ValueError: the text is not a size; the message says how to write one.
    """
    match = re.fullmatch(r"([\d.]+) *([KMGT]I?)?B?", text.strip().upper())
    try:
        if match is None:
            raise ValueError(text)
        return int(float(match[1]) * _UNITS[match[2] or ""])
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is not a size; write it as 3GB or 3GiB") from None


def size_text(count: int) -> str:
    """Returns the shortest text that `parse_size` reads as exactly `count` bytes."""
    texts = [
        f"{count // factor}{_PREFIXES.get(name, name).replace('I', 'i')}B"
        for name, factor in _UNITS.items()
        if name and count and not count % factor
    ]
    return min([*texts, str(count)], key=len)
