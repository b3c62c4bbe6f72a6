"""mitmproxy's words for what broke upstream, in ours, and without the bytes that it shows in some of them."""

WHAT_BROKE = {
    "unexpected server response": "the provider's answer is no HTTP (is the base URL right, http or https?)",
    "Cannot parse HTTP response": "the provider's answer is no HTTP (is the base URL right, http or https?)",
    "server closed connection": "the provider closed the connection without an answer",
    "HTTP/1 protocol error: peer closed connection": "the provider closed the connection in the middle of its reply",
    "HTTP/1 protocol error": "the provider's reply breaks the rules of HTTP",
}


def what_broke(message: str) -> str:
    for beginning, words in WHAT_BROKE.items():
        if message.startswith(beginning):
            return words
    return f"the provider's reply broke off: {message[:200]}"
