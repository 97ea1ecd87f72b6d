"""The Gramophone server. The front process imports no torch; `worker` and `engine` do."""
