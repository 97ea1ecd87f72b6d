"""A task queue that paints: `celery -A celery_tasks worker`.

    pip install gramophone celery
    GRAMOPHONE_SERVER=localhost:50051 CELERY_BROKER_URL=... celery -A celery_tasks worker

    painting = celery_tasks.paint.delay("harbour.jpg", "night.jpg", "out.png", size=512)
    painting.get()

The server computes, and the worker only waits, so a worker can have many threads (`--pool threads`).
"""

import os
from typing import Any

from celery import Celery

import gramophone

app = Celery("celery_tasks")
app.config_from_object({
    "broker_url": os.environ.get("CELERY_BROKER_URL", "memory://"),
    "result_backend": os.environ.get("CELERY_RESULT_BACKEND", "cache+memory://"),
    # A task whose worker dies runs again; its request_id finds the job that the first run has submitted.
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
})  # fmt: skip
# Created here once: each forked worker process gets its own connection.
client = gramophone.Client(os.environ.get("GRAMOPHONE_SERVER", "localhost:50051"))


@app.task(bind=True, max_retries=None)
def paint(task: Any, content: str, style: str, path: str, **options: Any) -> dict[str, Any]:
    """Transfers a style, writes the picture to `path`, and returns the job's id and loss.

    The state of the task has the progress. While the server has no room, the task waits in Celery's queue.
    """
    try:
        job = client.transfer(content, style, request_id=task.request.id, **options)
    except gramophone.OverloadedError as error:
        raise task.retry(exc=error, countdown=error.retry_after or 1) from error
    for frame in job:
        task.update_state(state="PROGRESS", meta={"iteration": frame.iteration, "of": frame.iterations})
    result = job.result()
    result.save(path)
    return {"job": job.id, "loss": result.loss}
