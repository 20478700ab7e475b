"""The errors that are told in a line: a person's mistake, and what a run has lost."""

MISTAKE = 2
LOST = 75  # the system's "try again later"


class UserError(Exception):
    """Something a person can mend: its text is shown as it is, in one or two lines, and the exit code is MISTAKE."""


class RunLost(UserError):
    """A run has lost what it cannot replace, and its last checkpoint is there to go on from; the exit code is LOST."""
