"""Jobs: what runs on a cluster. One thin script a job; ``_cluster`` alone imports Ray."""
