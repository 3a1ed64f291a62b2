"""Primary file of a `spark-submit`: the console command `lime`, with the arguments that follow this file."""

import sys

from jobs.cli import main

if __name__ == "__main__":
    sys.exit(main())
