"""Can the service do its work?"""
import os

from feinschliff.app.service import Service
from feinschliff.core.service_errors import NO_ROOM_HINT, NoRoom, Unavailable
from feinschliff.store.blobs import free_bytes
from feinschliff.store.keys import count_usable


def check_ready(service: Service) -> None:
    """Raises Unavailable, NoRoom."""
    with service.database.read() as db:
        count_usable(db)
    folder = service.settings.data_dir
    if not os.access(folder, os.W_OK):
        raise Unavailable(f"The data folder {folder} cannot be written.", hint="Check its permissions.")
    if free_bytes(folder) < service.settings.limits.spare_bytes:
        raise NoRoom(f"The disk of {folder} is full.", hint=NO_ROOM_HINT)
