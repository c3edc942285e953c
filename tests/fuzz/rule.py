"""What a door says when it broke the rule."""


class FaultError(Exception):
    """A door broke the rule."""


def expect(condition, what):
    """Raise `FaultError` unless a condition holds."""
    if not condition:
        raise FaultError(what)
