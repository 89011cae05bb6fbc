"""`python -m seqsru`: the same as the `seqsru` command."""

import sys

from seqsru.cli import main

if __name__ == "__main__":
    sys.exit(main())
