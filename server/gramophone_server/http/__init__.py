"""HTTP beside gRPC: Connect, gRPC-Web, JSON, server-sent events, files and the page. It only calls methods."""
