"""Whether this machine can do what params.yaml asks for."""
