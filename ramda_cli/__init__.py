"""Fine-tune a model under structured sparsity, remove what became zero, prove nothing changed."""

__version__ = "0.1.0"
