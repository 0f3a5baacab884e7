"""Files that the service fetches itself."""
from feinschliff.app.files import NewFile, add_file, check_name
from feinschliff.app.residency import check_mark
from feinschliff.app.service import Service
from feinschliff.core.service import Caller
from feinschliff.providers.download import fetch
from feinschliff.store.tables import FileRow


def import_file(service: Service, caller: Caller, url: str, new: NewFile) -> FileRow:
    """As `add_file`, from an address. Raises Forbidden for a host that the operator has not allowed, TooLarge, RequestError."""
    check_name(new.filename, new.purpose)
    check_mark(service, new.stays_in)
    settings = service.settings
    with service.blobs.incoming() as incoming:
        fetch(url, settings.import_from, incoming.write, most_bytes=settings.limits.file_bytes)
        return add_file(service, caller, incoming, new)
