"""The one exception that the command line shows without a traceback."""


class UserError(ValueError):
    """Bad input, in one sentence: which file and line or photo, what is wrong, what to do."""
