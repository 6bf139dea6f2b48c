"""The local `evaluate` metric `korean_rouge`; `evaluate` itself loads the script by its path."""
