"""How the package is imported: heavy libraries late and fast, its class in diffusers, and modules by old names."""
