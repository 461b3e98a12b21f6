"""Jobs whose processes and nodes are killed, in every stage, and what is left after them.

    python -m tests.chaos [--stages …] [--victims …] [--seeds N]

Prints one row for each stage and victim: rows that an undisturbed run has, and how many of them
are there as they should be, lost, there twice, or not what they should be.
"""
