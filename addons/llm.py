"""The LLM Interactive Proxy as a mitmproxy script: `mitmdump -s addons/llm.py`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # works from a checkout that is not installed

from llm_interactive.mitm.addons import addons as _addons

addons = _addons()
