"""Who calls: tokens, client certificates, TLS."""
