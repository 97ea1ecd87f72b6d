"""Picture files to pixels, in processes of their own, which bounds what a hostile file can take."""
