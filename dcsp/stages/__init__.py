"""What a stage, a step and an executor are; parts of tables, and a status for every row."""
