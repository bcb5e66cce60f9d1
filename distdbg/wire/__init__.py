"""How nouns travel: codec, channel, discovery."""
