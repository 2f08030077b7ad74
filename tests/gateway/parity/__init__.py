"""One corpus of exchanges, sent through every way that Gatehouse can serve a call."""
