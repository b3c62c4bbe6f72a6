"""Commands inside the chat (SPEC 5): one file for each command or family, found by scanning this folder.

`run` reads and runs what the user typed, `clean_history` is for what was typed in earlier turns; both are values in,
values out, but for the session and server of the `Context` that commands change.
"""
