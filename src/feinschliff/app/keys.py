"""API keys and the projects they belong to."""
import hashlib
import secrets
from dataclasses import dataclass

from feinschliff.app.service import Service, new_id
from feinschliff.core.service import DEFAULT_PROJECT, Caller, KeyId, ProjectId, Scope, Timestamp
from feinschliff.core.service_errors import NotFound, RequestError, Unauthorized
from feinschliff.store import audit, keys
from feinschliff.store.database import Session
from feinschliff.store.tables import KeyRow, ProjectRow

OPERATOR = Caller(DEFAULT_PROJECT, KeyId("operator"), Scope.ADMIN)  # whoever may run commands on the server's machine
PRESET = "preset"  # the name of the key that the environment gives
SHORTEST = 20  # characters of a preset key


@dataclass(frozen=True, slots=True)
class ListedKey:
    id: KeyId
    hint: str
    name: str
    project: str
    scope: Scope
    created_at: Timestamp
    revoked: bool


def create_key(service: Service, *, project: str, name: str, scope: Scope) -> tuple[KeyId, str]:
    """A new key: its id, and its text, which is shown this once and kept nowhere. The project is made if need be."""
    text = "fs-" + secrets.token_urlsafe(32)
    with service.database.write() as db:
        row = _add(service, db, _project(service, db, project).id, name, scope, text)
        audit.record(db, OPERATOR, "key.create", row.id, service.clock())
        return KeyId(row.id), text


def list_keys(service: Service) -> list[ListedKey]:
    with service.database.read() as db:
        return [
            ListedKey(
                KeyId(k.id), k.hint, k.name, p.name, Scope(k.scope), Timestamp(k.created_at), k.revoked_at is not None
            )
            for k, p in keys.keys_with_projects(db)
        ]  # fmt: skip


def revoke_key(service: Service, key_id: str) -> None:
    """From now on the key opens nothing. Raises NotFound."""
    with service.database.write() as db:
        row = keys.find_key(db, key_id)
        if row is None:
            raise NotFound(f"There is no key {key_id!r}.", hint="`feinschliff keys list` shows the ids.")
        row.revoked_at = row.revoked_at or service.clock()
        audit.record(db, OPERATOR, "key.revoke", key_id, service.clock())


def caller_of(service: Service, text: str, request_id: str) -> Caller:
    """Whose key this is. Raises Unauthorized."""
    with service.database.read() as db:
        row = keys.key_of_digest(db, digest_of(text))
    if row is None:
        shown = f"{text[:6]}…" if len(text) > 12 else "given"
        raise Unauthorized(f"Incorrect API key provided: {shown}", hint="`feinschliff keys create` makes a new one.")
    return Caller(ProjectId(row.project_id), KeyId(row.id), Scope(row.scope), request_id)


def first_key(service: Service) -> str | None:
    """Make sure that there is a way in: take over the preset key, or make one where there is none; then its text."""
    preset = service.settings.admin_key
    if preset is not None:
        _take_over(service, preset)
        return None
    with service.database.read() as db:
        if keys.count_usable(db):
            return None
    return create_key(service, project="default", name="first", scope=Scope.ADMIN)[1]


def has_keys(service: Service) -> bool:
    with service.database.read() as db:
        return keys.count_usable(db) > 0


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _take_over(service: Service, preset: str) -> None:
    """The preset key becomes an admin key; one that was preset before is revoked."""
    if len(preset) < SHORTEST:
        raise RequestError(f"The preset admin key has {len(preset)} characters; {SHORTEST} are the least.", hint="openssl rand -hex 24")
    with service.database.write() as db:
        project = ProjectId(_project(service, db, "default").id)
        for row in keys.keys_named(db, project, PRESET):
            if row.digest == digest_of(preset):
                return
            row.revoked_at = service.clock()
            audit.record(db, OPERATOR, "key.revoke", row.id, service.clock())
        known = keys.key_of_digest(db, digest_of(preset), revoked=True)
        if known is None:
            made = _add(service, db, project, PRESET, Scope.ADMIN, preset)
            audit.record(db, OPERATOR, "key.create", made.id, service.clock())
        else:
            known.revoked_at, known.scope = None, Scope.ADMIN
            audit.record(db, OPERATOR, "key.preset", known.id, service.clock())


def _project(service: Service, db: Session, name: str) -> ProjectRow:
    found = keys.find_project(db, name)
    if found is None:
        found = ProjectRow(id=DEFAULT_PROJECT if name == "default" else new_id("proj_"), name=name, created_at=service.clock())
        db.add(found)
        db.flush()
    return found


def _add(service: Service, db: Session, project: str, name: str, scope: Scope, text: str) -> KeyRow:
    row = KeyRow(
        id=new_id("key_"), project_id=project, name=name, digest=digest_of(text), hint=text[:6] + "…", scope=scope,
        created_at=service.clock(),
    )  # fmt: skip
    db.add(row)
    return row
