"""The one exception for mistakes that the user can mend."""


class InputError(ValueError):
    """Bad input: says which file or key, what was expected and what to do.

    Stage entry points and the command line print its message without a traceback and exit with 2;
    everything else is a defect of ours and keeps its traceback.
    """
