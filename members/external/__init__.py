"""Maps of other people's networks: their formats, what is odd about them, and how it is mended."""
