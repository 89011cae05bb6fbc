"""`python -m seqsru`: the same as the `seqsru` command."""

import sys

from seqsru.commands.signals import before_the_start


def run() -> int:
    """Run a command and return its exit status; a signal ends it in good order from the first moment on."""
    before_the_start()
    from seqsru.commands.main import main

    return main()


if __name__ == "__main__":
    sys.exit(run())
