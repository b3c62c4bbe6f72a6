"""An interactive LLM proxy, built as mitmproxy addons."""

__version__ = "0.1.0"
