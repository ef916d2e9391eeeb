"""Loading models by name, adapting their head and building them again."""
