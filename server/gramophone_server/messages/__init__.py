"""Types that all processes share: specs, events and estimates of jobs, and the messages on a worker's pipe."""
