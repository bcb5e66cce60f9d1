"""The nouns both sides share. Nothing here knows a socket, a thread or torch."""
