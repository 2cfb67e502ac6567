"""A run: its experiment, its members and their maps, and where these lie."""
