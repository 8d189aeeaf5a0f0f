"""What a result's folder says: the schema of ``report.json``, and what is made of it. Imports no torch."""
