"""The one error of a store."""

__all__ = ["StoreError"]


class StoreError(ValueError):
    """A file that is not a sound store, or something that cannot be done with it."""
