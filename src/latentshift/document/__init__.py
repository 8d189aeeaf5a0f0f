"""Documents of blocks (text, tables, plots, clips), and Markdown, HTML, CSV and LaTeX of them. Knows no metric."""
