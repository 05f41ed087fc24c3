"""Work that takes longer than a request, each piece in a process of its own: queued, watched, stopped and gone on with."""
