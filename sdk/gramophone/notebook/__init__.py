"""Display of jobs and pictures in notebooks. IPython and anywidget are imported at the first `job.show()`."""
