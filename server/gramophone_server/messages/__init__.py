"""What the processes tell each other: a job's spec, its events, its estimate, and the messages over a worker's pipe."""
