"""Self-tags: image scores, thresholds calibrated on tagged images, and the table of both."""
