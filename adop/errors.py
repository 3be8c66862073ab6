"""The one exception that the command line shows without a traceback."""


class UserError(ValueError):
    """A mistake in the user's input, in one sentence: which file and line or photo, what is wrong, what to do."""
