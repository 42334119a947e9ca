"""`... | python -m pipeline.log_file market-data.log`: see `pipeline.core.log_file`."""

import sys

from pipeline.core.log_file import main

if __name__ == "__main__":
    sys.exit(main())
