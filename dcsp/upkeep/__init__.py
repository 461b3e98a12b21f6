"""What changes a store beside the jobs: erasing images, and removing what no run needs."""
