"""Label maps that people have corrected: files of several tools, read as one table."""
