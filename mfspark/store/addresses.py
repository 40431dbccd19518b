"""Addresses as they may be shown: without what is nobody's business."""

from __future__ import annotations

import re


def without_secret(address: str) -> str:
    """Return an address without the user and password that may stand in it.

    Examples
    --------
    >>> without_secret("s3a://key:secret@bucket/ratings")
    's3a://***@bucket/ratings'
    """
    return re.sub(r"//[^/@]+@", "//***@", address)
