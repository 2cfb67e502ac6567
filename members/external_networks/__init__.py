"""Networks that were trained elsewhere: their files, descriptions, and how they become members."""
