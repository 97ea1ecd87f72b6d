"""Decodes picture files in separate processes, which bounds the memory and time that a hostile file can cost."""
