"""Train a model and write its artifacts: `python training/train.py --help`; the same as `python -m aiops_training`."""

import sys

from aiops_training.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
