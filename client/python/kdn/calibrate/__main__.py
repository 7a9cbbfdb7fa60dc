"""python -m kdn.calibrate"""

import sys

from .cli import main

sys.exit(main())
