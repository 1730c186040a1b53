"""`python -m SAMLungSegLib` is the command `samlungseg`."""

import sys

from SAMLungSegLib.cli import main

sys.exit(main())
