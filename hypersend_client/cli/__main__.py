from __future__ import annotations

import sys

from hypersend_client.cli import main

sys.exit(main())
