"""A web service that submits jobs and relays their progress to browsers by server-sent events.

pip install gramophone fastapi uvicorn
GRAMOPHONE_SERVER=localhost:50051 uvicorn fastapi_relay:app

POST   /pictures               the file of a picture as the body → its SHA-256
POST   /paintings              {"content": SHA256, "style": SHA256, "options": {"size": 512}} → the job's id
GET    /paintings/{id}/events  progress; a browser's EventSource resumes it after a broken connection
GET    /paintings/{id}/picture the result
DELETE /paintings/{id}         cancels the job
"""

import base64
import json
import os
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import FastAPI, Header, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel

import gramophone
from gramophone import aio

app = FastAPI()
client = aio.Client(os.environ.get("GRAMOPHONE_SERVER", "localhost:50051"))


class Painting(BaseModel):
    """The body of a submission: hashes of uploaded pictures, and options."""

    content: str
    style: str
    options: gramophone.Options = {}


@app.post("/pictures", status_code=201)
async def upload(request: Request) -> dict[str, str]:
    """Uploads a picture."""
    return {"sha256": await client.upload(await request.body())}


@app.post("/paintings", status_code=201)
async def submit(painting: Painting) -> dict[str, str]:
    """Submits a style transfer."""
    content, style = gramophone.Uploaded(painting.content), gramophone.Uploaded(painting.style)
    return {"id": (await client.transfer(content, style, **painting.options)).id}


@app.get("/paintings/{job_id}/events")
async def events(job_id: str, last_event_id: Annotated[int, Header()] = 0) -> Response:
    """Streams the progress of a job after the event that the browser has received last."""
    info = await (await client.job(job_id)).info()
    if info.ended and last_event_id >= info.sequence:
        return Response(status_code=204)  # the browser has everything; EventSource stops
    return StreamingResponse(relay(job_id, last_event_id), media_type="text/event-stream")


@app.get("/paintings/{job_id}/picture")
async def picture(job_id: str) -> Response:
    """Returns the result of a job."""
    return Response(await (await client.job(job_id)).download(), media_type="image/png")


@app.delete("/paintings/{job_id}", status_code=204)
async def cancel(job_id: str) -> None:
    """Cancels a job."""
    await (await client.job(job_id)).cancel()


@app.exception_handler(gramophone.GramophoneError)
async def failed(request: Request, error: Exception) -> JSONResponse:
    """Turns an error of the service into a response."""
    match error:
        case gramophone.NotFoundError():
            return JSONResponse({"detail": str(error)}, 404)
        case gramophone.InvalidRequestError():
            return JSONResponse({"detail": [f"{v.field}: {v.description}" for v in error.violations]}, 422)
        case gramophone.OverloadedError():
            return JSONResponse({"detail": str(error)}, 429, {"Retry-After": str(round(error.retry_after or 1))})
        case gramophone.UnavailableError():
            return JSONResponse({"detail": str(error)}, 503)
    return JSONResponse({"detail": str(error)}, 500)


async def relay(job_id: str, after: int) -> AsyncIterator[str]:
    """Yields server-sent events: `progress` with a preview, at last `done` or `failed`. The job outlives the stream."""
    job = await client.job(job_id, after=after)
    try:
        async for frame in job:
            preview = base64.b64encode(frame.preview_bytes).decode()
            progress = {"iteration": frame.iteration, "iterations": frame.iterations, "loss": frame.loss}
            yield event("progress", progress | {"preview": preview}, frame.sequence)
        last = event("done", {"picture": f"/paintings/{job_id}/picture"}, (await job.info()).sequence)
    except (gramophone.JobFailedError, gramophone.JobCancelledError) as error:
        last = event("failed", {"detail": str(error)}, (await job.info()).sequence)
    yield last


def event(name: str, data: object, sequence: int) -> str:
    """Returns a server-sent event whose id is a sequence of the job."""
    return f"event: {name}\nid: {sequence}\ndata: {json.dumps(data)}\n\n"
