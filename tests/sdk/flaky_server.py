"""A server that implements the contract over a real socket, in a separate process, and fails as a script says.

It does not paint: every job has the same list of events. It keeps its state in a folder, so that the state survives the
death of the process.
"""

import base64
import contextlib
import hashlib
import multiprocessing
import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from gramophone.v1 import job_pb2, model_service_pb2, options_pb2
from gramophone.v1 import job_service_pb2 as pb
from gramophone.v1 import job_service_pb2_grpc as job_grpc
from gramophone.v1 import model_service_pb2_grpc as model_grpc
from gramophone.v1 import style_transfer_service_pb2 as style_pb
from gramophone.v1 import style_transfer_service_pb2_grpc as style_grpc

ITERATIONS = 10
FIRST_PROGRESS = 3  # sequence of the event of iteration 1, which follows QUEUED and RUNNING
LAST = FIRST_PROGRESS + ITERATIONS
# A black pixel. Decoders ignore bytes after the end of a picture.
_PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
LARGE = "large"
"""The request_id of a job whose result is too large for an event."""
RESULT = _PICTURE + random.Random(0).randbytes(3_500_000)
PIECE = 256 << 10

Context = grpc.ServicerContext

# Servers are forked from one process that has imported these modules: the imports take most of the time of a start.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload([__name__])


class FlakyServer:
    """Starts the server and starts it again whenever it dies, until the `with` block ends.

    Each line of a script has a method, a fault of its next call, and a number or code, such as "WatchJob die 3":
        die N: the process exits, as if killed, after N messages of a stream to the client or to the server
        die_done 0: the process exits when the call's work is done, before the response
        end N: the stream ends without an error after N messages
        hang N: the call sleeps N seconds first
        abort CODE: the call ends with that status code
        damage 0: the bytes sent are wrong
        change 0: the result's SHA-256 is that of another file
    """

    def __init__(self, folder: Path, pace: float = 0.0) -> None:
        self.folder = folder
        self.starts = 0
        self._pace = pace
        self._leaving = False
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"

    def __enter__(self) -> "FlakyServer":
        for name in ("jobs", "uploads"):
            (self.folder / name).mkdir(parents=True)
        self.start()
        threading.Thread(target=self._supervise, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def script(self, *lines: str) -> None:
        """Sets the faults of the next calls."""
        (self.folder / "script").write_text("\n".join(lines))

    def calls(self, method: str) -> list[str]:
        """Returns the notes of a method's calls in order, such as a size or an id."""
        with contextlib.suppress(FileNotFoundError):
            lines = (self.folder / "calls").read_text().splitlines()
            return [line.partition(" ")[2] for line in lines if line.split()[0] == method]
        return []

    def jobs(self) -> list[str]:
        """Returns the ids of all jobs."""
        return [path.name for path in (self.folder / "jobs").iterdir()]

    def forget_uploads(self) -> None:
        """Deletes all uploads, as a server does after some time."""
        for path in (self.folder / "uploads").iterdir():
            path.unlink()

    def kill(self) -> None:
        """Kills the process, like `kill -9`."""
        self._process.kill()

    def leave(self) -> None:
        """Kills the process and does not start it again."""
        self._leaving = True
        self.kill()
        self._process.join()

    def start(self) -> None:
        """Starts the process."""
        ready, serving = _processes.Pipe(duplex=False)
        self._process = _processes.Process(
            target=_serve, args=(self.address, self.folder, self._pace, serving), daemon=True
        )
        self._process.start()
        serving.close()
        with ready, contextlib.suppress(EOFError):
            ready.recv()
        self.starts += 1

    def _supervise(self) -> None:
        while not self._leaving:
            self._process.join()
            if not self._leaving:
                self.start()


class _Servicer(job_grpc.JobServiceServicer, style_grpc.StyleTransferServiceServicer, model_grpc.ModelServiceServicer):
    def __init__(self, folder: Path, pace: float) -> None:
        self._folder = folder
        self._pace = pace
        self._lock = threading.Lock()

    def ReconstructStyle(self, request: Any, context: Context) -> Iterator[Any]:
        return self._paint("ReconstructStyle", request, context, style_pb.ReconstructStyleResponse)

    def ReconstructContent(self, request: Any, context: Context) -> Iterator[Any]:
        return self._paint("ReconstructContent", request, context, style_pb.ReconstructContentResponse)

    def TransferStyle(self, request: Any, context: Context) -> Iterator[Any]:
        return self._paint("TransferStyle", request, context, style_pb.TransferStyleResponse)

    def EstimateJob(self, request: Any, context: Context) -> Any:
        self._check_images(request, "style.", context)
        self._note("EstimateJob", str(request.ByteSize()))
        return style_pb.EstimateJobResponse(fits=True)

    def WatchJob(self, request: Any, context: Context) -> Iterator[Any]:
        self._note("WatchJob", str(request.after_sequence))
        fault = self._fault("WatchJob", context)
        self._find(request.job_id, context)
        events = self._events(request.job_id, request.after_sequence, fault)
        return (pb.WatchJobResponse(event=event) for event in events)

    def GetJob(self, request: Any, context: Context) -> Any:
        self._note("GetJob", request.job_id)
        self._fault("GetJob", context)
        self._find(request.job_id, context)
        return pb.GetJobResponse(job=_job(request.job_id))

    def ListJobs(self, request: Any, context: Context) -> Any:
        self._note("ListJobs", " ".join(str(request).split()))
        self._fault("ListJobs", context)
        ids = sorted(path.name for path in (self._folder / "jobs").iterdir())
        start = int(request.page_token or 0)
        end = start + request.page_size
        token = str(end) if end < len(ids) else ""
        return pb.ListJobsResponse(jobs=[_job(job_id) for job_id in ids[start:end]], next_page_token=token)

    def CancelJob(self, request: Any, context: Context) -> Any:
        self._note("CancelJob", request.job_id)
        self._fault("CancelJob", context)
        return pb.CancelJobResponse()

    def DeleteJob(self, request: Any, context: Context) -> Any:
        self._note("DeleteJob", request.job_id)
        fault = self._fault("DeleteJob", context)
        self._find(request.job_id, context)
        (self._folder / "jobs" / request.job_id).unlink()
        if fault[0] == "die_done":
            _die()
        return pb.DeleteJobResponse()

    def GetUpload(self, request: Any, context: Context) -> Any:
        self._note("GetUpload", request.sha256)
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "no client calls this here")

    def DownloadInput(self, request: Any, context: Context) -> Any:
        self._note("DownloadInput", request.job_id)
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "no client calls this here")

    def GetPreview(self, request: Any, context: Context) -> Any:
        self._note("GetPreview", request.job_id)
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "no client calls this here")

    def DownloadResult(self, request: Any, context: Context) -> Iterator[Any]:
        self._note("DownloadResult", str(request.offset))
        what, count = self._fault("DownloadResult", context)
        self._find(request.job_id, context)
        digest = hashlib.sha256(b"another" if what == "change" else RESULT).hexdigest()
        for i, start in enumerate(range(request.offset, max(len(RESULT), request.offset + 1), PIECE)):
            if self._stop(what, count, i):
                return
            data = RESULT[start : start + PIECE]
            response = pb.DownloadResultResponse(data=data[::-1] if what == "damage" else data)
            if i == 0:
                response.size, response.sha256 = len(RESULT), digest
            yield response

    def UploadImage(self, requests: Iterator[Any], context: Context) -> Any:
        what, count = self._fault("UploadImage", context)
        first = next(requests)
        path = self._folder / "uploads" / first.sha256
        data = first.data
        if not path.exists():
            for i, request in enumerate(requests):
                if what == "die" and i == int(count):
                    _die()
                data += request.data
            if hashlib.sha256(data).hexdigest() != first.sha256:
                _abort(context, "INVALID_ARGUMENT", violation=("sha256", "is not that of the bytes"))
            path.write_bytes(data)
        self._note("UploadImage", str(len(data)))
        return pb.UploadImageResponse(sha256=first.sha256, size=path.stat().st_size)

    def ListModels(self, request: Any, context: Context) -> Any:
        return model_service_pb2.ListModelsResponse()

    def ExtractFeatures(self, request: Any, context: Context) -> Iterator[Any]:
        self._check_images(request, "", context)
        self._note("ExtractFeatures", str(request.ByteSize()))
        yield model_service_pb2.ExtractFeaturesResponse()

    def _paint(self, method: str, request: Any, context: Context, response: Any) -> Iterator[Any]:
        self._note(method, f"{request.ByteSize()} {request.submission.priority} {request.submission.request_id}")
        fault = self._fault(method, context)
        job_id = f"job-{request.submission.request_id}"
        path = self._folder / "jobs" / job_id
        if not path.exists():
            self._check_images(request, "", context)
            path.touch()
        if fault[0] == "die_done":
            _die()
        return (response(event=event) for event in self._events(job_id, 0, fault))

    def _events(self, job_id: str, after: int, fault: tuple[str, str]) -> Iterator[job_pb2.JobEvent]:
        for i, sequence in enumerate(range(after + 1, LAST + 1)):
            if self._stop(*fault, i):
                return
            time.sleep(self._pace)
            event = job_pb2.JobEvent(job_id=job_id, sequence=sequence, state=job_pb2.JOB_STATE_RUNNING)
            if sequence == 1:
                event.state = job_pb2.JOB_STATE_QUEUED
            elif sequence == LAST:
                event.state = job_pb2.JOB_STATE_SUCCEEDED
                event.result.recipe_json = "{}"
                if job_id == f"job-{LARGE}":
                    event.result.image.size = len(RESULT)
                else:
                    event.result.image.data = _PICTURE + job_id.encode()
            elif sequence >= FIRST_PROGRESS:
                event.progress.iteration = sequence - FIRST_PROGRESS + 1
                event.progress.iterations = ITERATIONS
            yield event

    def _stop(self, what: str, count: str, sent: int) -> bool:
        """Whether a stream ends after `sent` messages; exits the process for the fault "die"."""
        if what not in ("die", "end") or sent < int(count):
            return False
        if what == "die":
            _die()
        return True

    def _find(self, job_id: str, context: Context) -> None:
        if not (self._folder / "jobs" / job_id).exists():
            _abort(context, "NOT_FOUND", violation=("job_id", f"is {job_id!r}, which is not known"))

    def _check_images(self, request: Message, at: str, context: Context) -> None:
        for field, value in request.ListFields():
            parts = [value] if isinstance(value, Message) else value if field.message_type else []
            for part in parts:
                if not isinstance(part, options_pb2.InputImage):
                    self._check_images(part, f"{at}{field.name}.", context)
                elif part.sha256 and not (self._folder / "uploads" / part.sha256).exists():
                    _abort(context, "INVALID_ARGUMENT", violation=(f"{at}{field.name}.sha256", "is not kept here"))

    def _fault(self, method: str, context: Context) -> tuple[str, str]:
        """Returns (fault, number) of this call, and removes that line from the script."""
        script = self._folder / "script"
        with self._lock:
            lines = script.read_text().splitlines() if script.exists() else []
            mine = next((line for line in lines if line.startswith(f"{method} ")), None)
            if mine is None:
                return "", ""
            lines.remove(mine)
            script.write_text("\n".join(lines))
        _, what, number = mine.split()
        match what:
            case "abort":
                _abort(context, number)
            case "hang":
                time.sleep(float(number))
            case "die" if number == "0" and method != "UploadImage":
                _die()
        return what, number

    def _note(self, method: str, text: str) -> None:
        with self._lock, (self._folder / "calls").open("a") as calls:
            calls.write(f"{method} {text}\n")


def _job(job_id: str) -> job_pb2.Job:
    job = job_pb2.Job(id=job_id, kind=job_pb2.JOB_KIND_STYLE, state=job_pb2.JOB_STATE_SUCCEEDED)
    job.owner, job.priority, job.attempts = "ann", 3, 2
    return job


def _die() -> NoReturn:
    # Messages that were sent before must go out first.
    time.sleep(0.05)
    os._exit(9)


def _abort(context: Context, code: str, *, violation: tuple[str, str] | None = None) -> NoReturn:
    status = status_pb2.Status(code=grpc.StatusCode[code].value[0], message=code)
    detail = AnyMessage()
    if violation is not None:
        field = error_details_pb2.BadRequest.FieldViolation(field=violation[0], description=violation[1])
        detail.Pack(error_details_pb2.BadRequest(field_violations=[field]))
        status.details.append(detail)
    elif code == "RESOURCE_EXHAUSTED":
        detail.Pack(error_details_pb2.RetryInfo(retry_delay=Duration(nanos=400_000_000)))
        status.details.append(detail)
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(grpc.StatusCode[code], code)
    raise AssertionError("abort raises")


def _serve(address: str, folder: Path, pace: float, serving: Connection) -> None:
    options = [("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)]
    server = grpc.server(ThreadPoolExecutor(32), options=options)
    servicer = _Servicer(folder, pace)
    job_grpc.add_JobServiceServicer_to_server(servicer, server)
    style_grpc.add_StyleTransferServiceServicer_to_server(servicer, server)
    model_grpc.add_ModelServiceServicer_to_server(servicer, server)
    server.add_insecure_port(address)
    server.start()
    serving.send(None)
    serving.close()
    server.wait_for_termination()
