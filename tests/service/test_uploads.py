"""Files in parts."""
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from openai import APIStatusError, BadRequestError, ConflictError, NotFoundError
from test_files import training_lines


def begin(client, size, purpose="user_data", name="big.bin"):
    return client.uploads.create(bytes=size, filename=name, mime_type="application/octet-stream", purpose=purpose)


def test_parts_in_parallel_become_one_file_in_the_given_order(client, contract):
    pieces = [os.urandom(100_000) for _ in range(6)]
    whole = b"".join(pieces)
    upload = begin(client, len(whole))
    assert (upload.status, upload.expires_at - upload.created_at) == ("pending", 3600)
    with ThreadPoolExecutor(6) as pool:
        parts = list(pool.map(lambda piece: client.uploads.parts.create(upload.id, data=piece), pieces))
    done = client.uploads.complete(upload.id, part_ids=[p.id for p in parts], md5=hashlib.md5(whole).hexdigest())
    assert (done.status, done.file.bytes, done.file.filename) == ("completed", len(whole), "big.bin")
    assert client.files.content(done.file.id).read() == whole


def test_the_clients_own_chunked_upload_works(client, tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_bytes(training_lines())
    done = client.uploads.upload_file_chunked(file=path, mime_type="text/jsonl", purpose="fine-tune", part_size=200)
    assert client.files.content(done.file.id).read() == path.read_bytes()


def test_wrong_sizes_checksums_and_parts_are_refused_and_leave_the_upload_open(client):
    upload = begin(client, 10)
    part = client.uploads.parts.create(upload.id, data=b"01234")
    with pytest.raises(BadRequestError, match="5 bytes in all; the upload was declared with 10"):
        client.uploads.complete(upload.id, part_ids=[part.id])
    with pytest.raises(BadRequestError, match="named twice"):
        client.uploads.complete(upload.id, part_ids=[part.id, part.id])
    other = client.uploads.parts.create(upload.id, data=b"56789")
    with pytest.raises(BadRequestError, match="MD5"):
        client.uploads.complete(upload.id, part_ids=[part.id, other.id], md5="0" * 32)
    with pytest.raises(BadRequestError, match="no part 'part_x'"):
        client.uploads.complete(upload.id, part_ids=["part_x"])
    assert client.uploads.complete(upload.id, part_ids=[other.id, part.id]).file.bytes == 10


def test_a_cancelled_upload_takes_nothing_more(client, server):
    upload = begin(client, 10)
    client.uploads.parts.create(upload.id, data=b"gone with the upload")
    assert client.uploads.cancel(upload.id).status == "cancelled"
    with pytest.raises(ConflictError, match="cancelled"):
        client.uploads.parts.create(upload.id, data=b"x")
    with pytest.raises(NotFoundError):
        client.uploads.cancel("upload_x")
    assert not [p for p in (server.data / "blobs").glob("??/*") if p.read_bytes() == b"gone with the upload"]


def test_more_than_the_limits_is_refused(client):
    with pytest.raises(APIStatusError, match="more than an upload may have") as refused:
        begin(client, 9 << 30)
    assert refused.value.status_code == 413
    with pytest.raises(BadRequestError, match="does not end with"):
        begin(client, 5, "fine-tune")
