"""`python -m lora_studio.cli` is `lora-studio`."""

import sys

from lora_studio.cli import main

sys.exit(main())
