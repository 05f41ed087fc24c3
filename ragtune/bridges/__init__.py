"""Other people's interfaces onto ours, and a client of our own server."""
