"""`python -m seqsru`: the same as the `seqsru` command."""

import sys

from seqsru.commands.signals import after_the_end, before_the_start


def run() -> int:
    """Run a command and return its exit status; a signal ends it in good order, from first to last."""
    before_the_start()
    from seqsru.commands.main import main

    status = main()
    after_the_end()
    return status


if __name__ == "__main__":
    sys.exit(run())
