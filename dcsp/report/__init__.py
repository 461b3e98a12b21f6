"""One self-contained HTML page that says how a run went and how far to trust it."""
