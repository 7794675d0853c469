"""What a person can put right: one sentence that names the file or option, what was wrong, and what to do."""


class VcvaeError(Exception):
    """Bad input. The command line prints its message alone, without a traceback, and exits with code 2."""
