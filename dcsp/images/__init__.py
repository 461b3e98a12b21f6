"""Images: decoding files from anywhere, and the resizing that every stage shares."""
