"""Queue, admission, scheduler, and the executors that run jobs in worker processes."""
