"""The page that people look at: arrays and numbers in, one HTML file out."""
