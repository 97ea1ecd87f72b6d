"""Jobs on the disk: a database, files of pictures and results, who owns them, and what happens when the disk fails."""
