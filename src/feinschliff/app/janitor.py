"""What time takes away: expired files and uploads, and bytes that a kill left without a row."""
from feinschliff.app.files import drop_unused
from feinschliff.app.service import Service
from feinschliff.core.service import Caller, KeyId, ProjectId, Scope, UploadStatus
from feinschliff.store import audit, files


def expire(service: Service) -> bool:
    """Remove what is overdue; False where nothing was."""
    with service.database.read() as db:
        now = service.clock()
        if not files.expired_files(db, now) and not files.overdue_uploads(db, now):
            return False
    freed: list[str] = []
    with service.database.write() as db:
        for row in files.expired_files(db, now):
            freed.append(row.sha256)
            audit.record(db, _sweeper(row.project_id), "file.expire", row.id, now)
            db.delete(row)
        for upload in files.overdue_uploads(db, now):
            upload.status = UploadStatus.EXPIRED
            audit.record(db, _sweeper(upload.project_id), "upload.expire", upload.id, now)
            freed += [part.sha256 for part in files.parts_of(db, upload.id)]
            files.drop_parts(db, upload.id)
    drop_unused(service, freed)
    return True


def tidy(service: Service) -> None:
    """At a server's start: half-arrived bytes, and blobs whose row was never committed."""
    service.blobs.clear_incoming()
    drop_unused(service, service.blobs.all())


def _sweeper(project: str) -> Caller:
    return Caller(ProjectId(project), KeyId("service"), Scope.ADMIN)
