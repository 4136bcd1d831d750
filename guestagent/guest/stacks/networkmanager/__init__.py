"""NetworkManager."""
