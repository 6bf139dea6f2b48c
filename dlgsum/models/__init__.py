"""Models and their tokenizers: choosing, loading, preparing, generating."""
