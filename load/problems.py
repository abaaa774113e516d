"""What ends a run before it has a result."""


class CannotRun(Exception):
    """The run cannot begin or go on; the text says why, and what to do."""
