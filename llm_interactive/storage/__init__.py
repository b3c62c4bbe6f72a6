"""What is kept on disk: `proxy.db` in the proxy's home, an SQLite file.

`migrations` makes and changes its tables, `ledger` writes usage, `usage_queries` reads it. Every opened connection is
short-lived or can be opened anew: a damaged file is set aside while others have it open.
"""
