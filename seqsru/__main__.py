"""`python -m seqsru`: the same as the `seqsru` command."""

import sys

from seqsru.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
