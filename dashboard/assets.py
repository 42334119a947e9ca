"""`python -m dashboard.assets`: bring the chart library to this checkout (`pipeline.services.charts_library`)."""

import sys

from pipeline.services.charts_library import main

if __name__ == "__main__":
    sys.exit(main())
