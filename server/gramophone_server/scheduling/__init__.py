"""Which job runs next, and where: queue, admission, scheduler, and the executors that run jobs in worker processes."""
