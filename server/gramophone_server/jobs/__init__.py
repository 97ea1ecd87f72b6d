"""Where a job waits, runs and is watched: spec, events, store, hub, scheduler, executors."""
