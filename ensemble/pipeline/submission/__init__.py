"""Label maps as files that others read: the competition's CSV, run lengths, PNG."""
