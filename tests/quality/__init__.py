"""Quality that takes photographs or hours to measure, beside what others have for the same."""
