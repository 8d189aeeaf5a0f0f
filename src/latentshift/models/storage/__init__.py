"""Model folders and files: families of base models, loading, saving, conversion, and checks of what they hold."""
