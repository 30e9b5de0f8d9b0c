"""What can be wrong with a data set; the text of each error is meant for the user and names the next action."""

from __future__ import annotations


class DataError(Exception):
    """The data set cannot be used as it is."""


class UnreadableImageError(DataError):
    """One image file cannot be decoded completely."""


class LeakError(DataError):
    """A group (patient, lesion) lies in more than one split."""


class DataChangedError(DataError):
    """The images or labels are not the ones that the stored split was made for."""
