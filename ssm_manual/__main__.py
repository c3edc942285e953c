"""``python -m ssm_manual`` is the command ``ssm-manual``."""

import sys

from ssm_manual.cli import main

if __name__ == "__main__":
    sys.exit(main())
