"""Can the service do its work?"""
import os

from feinschliff.app.service import Service
from feinschliff.core.service_errors import Unavailable
from feinschliff.store.keys import count_usable

LEAST_FREE_BYTES = 64 << 20


def check_ready(service: Service) -> None:
    """Raises Unavailable, and the database's own error, which is answered in the same way."""
    with service.database.read() as db:
        count_usable(db)
    folder = service.settings.data_dir
    if not os.access(folder, os.W_OK):
        raise Unavailable(f"The data folder {folder} cannot be written.", hint="Check its permissions.")
    if free_bytes(service) < LEAST_FREE_BYTES:
        raise Unavailable(f"The disk of {folder} is full.", hint="Delete files or models, or make room.")


def free_bytes(service: Service) -> int:
    stat = os.statvfs(service.settings.data_dir)
    return stat.f_bavail * stat.f_frsize
