"""The error that means a person's mistake."""


class UserError(Exception):
    """Something a person can mend: its text is shown as it is, in one or two lines, and the exit code is 2."""
