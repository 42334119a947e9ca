"""`python -m dashboard.assets`: install the chart library (`pipeline.services.charts_library`)."""

import sys

from pipeline.services.charts_library import main

if __name__ == "__main__":
    sys.exit(main())
