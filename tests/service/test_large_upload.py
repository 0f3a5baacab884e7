"""The server's memory does not follow the size of what it is sent."""
import os
import re
from pathlib import Path

import pytest
from test_uploads import begin

MIB = 1 << 20


def most_memory(pid):
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text()).group(1)) * 1024


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_512_mebibytes_raise_the_servers_memory_by_less_than_64(server, client, tmp_path):
    """In one file, and in parts of 64 MiB: the greatest sizes that are allowed."""
    big, piece = tmp_path / "big.bin", os.urandom(64 * MIB)
    with big.open("wb") as file:
        for _ in range(8):
            file.write(piece)
    client = client.with_options(timeout=600)
    client.files.create(file=("small.txt", b"x"), purpose="user_data")  # what the first request costs is not the size's
    before = most_memory(server.process.pid)
    with big.open("rb") as file:
        kept = client.files.create(file=file, purpose="user_data")
    whole = most_memory(server.process.pid) - before
    upload = begin(client, 512 * MIB)
    parts = [client.uploads.parts.create(upload.id, data=piece).id for _ in range(8)]
    assert client.uploads.complete(upload.id, part_ids=parts).file.bytes == kept.bytes == 512 * MIB
    in_parts = most_memory(server.process.pid) - before
    print(f"one file: {whole / MIB:.1f} MiB more; then in parts: {in_parts / MIB:.1f} MiB more")
    assert max(whole, in_parts) < 64 * MIB
