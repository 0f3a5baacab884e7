"""A provider as real ones are and `feinschliff serve` is not: statuses of Azure's, nulls and -1, storms of 429, lost answers.

Shapes are those of the published specifications (OpenAI 2.3.0, Azure 2024-10-21). It keeps no metadata where `forgetful`, ignores
idempotency keys, and does what `faults` says to the next requests of a kind.
"""
import json
import threading
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STEPS = ((1, 2.0), (2, 1.0))


class Provider:
    def __init__(self, *, forgetful=False, ends="succeeded"):
        self.jobs, self.files, self.requests = [], [], []
        self.forgetful, self.ends = forgetful, ends
        self.faults = {}  # "POST /fine_tuning/jobs" → deque of (when, what): ("before" | "after", status | "reset" | "hang", headers)
        self.hanging = threading.Event()
        self.lock = threading.Lock()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                provider.answer(self)

            do_POST = do_DELETE = do_GET

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def fault(self, request, *faults):
        self.faults.setdefault(request, deque()).extend(faults)

    def answer(self, handler):
        length = int(handler.headers.get("content-length") or 0)
        body = handler.rfile.read(length)
        path, _, query = handler.path.partition("?")
        request = f"{handler.command} {path.removeprefix('/v1').removeprefix('/openai')}"
        self.requests.append((request, query))
        queue = self.faults.get(request)
        when, what, headers = queue.popleft() if queue else (None, None, {})
        shape = {} if when == "before" else self.act(handler.command, request.split()[1], body, handler)
        if what == "reset":
            handler.close_connection = True
            handler.connection.close()
            return
        if what == "hang":
            self.hanging.set()
            time.sleep(30)
            return
        if isinstance(what, int):
            self.send(handler, what, {"error": {"message": "too busy", "type": "server_error", "param": None, "code": None}}, headers)
        else:
            self.send(handler, 404 if shape is None else 200, shape or {"error": {"message": "no such thing", "type": "x", "param": None, "code": None}})

    def send(self, handler, status, shape, headers=()):
        data = json.dumps(shape).encode()
        handler.send_response(status)
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", str(len(data)))
        for name, value in dict(headers).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data)

    def act(self, method, path, body, handler):
        parts = path.strip("/").split("/")
        with self.lock:
            if parts == ["files"]:
                return self.new_file(body) if method == "POST" else page(self.files)
            if parts[0] == "files":
                return self.file(parts[1])
            if parts[:2] == ["fine_tuning", "jobs"]:
                if len(parts) == 2:
                    return self.new_job(json.loads(body)) if method == "POST" else page(self.jobs[::-1])
                return self.of_job(next((j for j in self.jobs if j["id"] == parts[2]), None), parts[3:])
            if parts[-2:] == ["chat", "completions"]:
                return reply(json.loads(body))
        return None

    def new_file(self, body):
        name = body.split(b'filename="')[1].split(b'"')[0].decode()
        boundary = body[: body.index(b"\r\n")]
        part = next(p for p in body.split(boundary) if b"filename=" in p)
        size = len(part.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n"))
        file = {"id": f"file-{len(self.files)}", "object": "file", "filename": name, "bytes": size, "created_at": 1, "purpose": "fine-tune", "status": "pending"}
        self.files.append(file)
        return file

    def file(self, file_id):
        file = next((f for f in self.files if f["id"] == file_id), None)
        if file is not None:
            file["status"] = {"pending": "running"}.get(file["status"], "processed")
        return file

    def new_job(self, wanted):
        chosen = {"n_epochs": -1, "batch_size": -1, "learning_rate_multiplier": -1}
        job = {
            "id": f"ftjob-{len(self.jobs):03}", "object": "fine_tuning.job", "created_at": 100 + len(self.jobs), "status": "pending", "looks": 0,
            "model": wanted["model"], "training_file": wanted["training_file"], "organization_id": None, "result_files": None, "error": None,
            "fine_tuned_model": None, "finished_at": None, "trained_tokens": None, "hyperparameters": chosen, "seed": wanted.get("seed"),
            "wanted": wanted, **({} if self.forgetful else {"metadata": wanted["metadata"]}),
        }  # fmt: skip
        self.jobs.append(job)
        return job

    def of_job(self, job, rest):
        if job is None:
            return None
        if rest == ["events"]:
            return page(events(job)[::-1])
        if rest == ["checkpoints"]:
            name = f"{job['model']}.ft-{job['id']}:ckpt-step-1"
            return page([{"id": "ftchkpt-1", "object": "fine_tuning.job.checkpoint", "created_at": 1, "fine_tuned_model_checkpoint": name, "step_number": 1, "metrics": {}, "fine_tuning_job_id": job["id"]}])
        if rest == ["cancel"]:
            job["status"] = "cancelled"
        elif not rest and job["status"] not in ("succeeded", "failed", "cancelled"):
            job["looks"] += 1
            if job["looks"] == 2:
                job["status"] = "running"
            if job["looks"] >= 4:
                self.end(job)
        return job

    def end(self, job):
        job["status"], job["finished_at"] = self.ends, job["created_at"] + 60
        if self.ends == "succeeded":
            job |= {"fine_tuned_model": f"{job['model']}.ft-{job['id']}", "trained_tokens": 5000}
        else:
            job["error"] = {"code": "safety_evaluation_failed", "message": "The model did not pass the safety evaluation.", "param": None}


def events(job):
    told = [{"id": f"e{job['id']}-0", "object": "fine_tuning.job.event", "created_at": 1, "level": "warning", "message": "Job enqueued.", "type": "message", "data": None}]
    if job["looks"] >= 3:
        told += [
            {"id": f"e{job['id']}-{s}", "object": "fine_tuning.job.event", "created_at": s, "level": "info", "message": f"Step {s}", "type": "metrics",
             "data": {"step": s, "total_steps": 2, "train_loss": loss, "train_mean_token_accuracy": 0.5, "valid_loss": -1, "valid_mean_token_accuracy": -1}}
            for s, loss in STEPS
        ]  # fmt: skip
    return told


def page(rows):
    return {"object": "list", "data": rows, "has_more": False}


def reply(wanted):
    if wanted["messages"][-1]["content"] == "forbidden":
        return None
    message = {"role": "assistant", "content": f"You said {wanted['messages'][-1]['content']}", "refusal": None}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": wanted["model"], "usage": usage, "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}]}
