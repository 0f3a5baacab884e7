"""What a server is started with."""
from pathlib import Path
from typing import Literal

from pydantic import Field

from feinschliff.core.chat import Wire

MEBI = 1 << 20
DAY_S = 24 * 3600
LogFormat = Literal["json", "text"]
EngineName = Literal["auto", "feinschliff", "vllm"]


class Limits(Wire):
    """Sizes in bytes, times in seconds; those of the hosted services where they have one."""

    file_bytes: int = Field(512 * MEBI, ge=1)
    upload_bytes: int = Field(8 << 30, ge=1)
    part_bytes: int = Field(64 * MEBI, ge=1)
    json_bytes: int = Field(8 * MEBI, ge=1024)  # of a request body that is no file
    upload_lives_s: int = Field(3600, ge=1)
    requests_per_minute: int = Field(3000, ge=1)  # of one key
    running_jobs: int = Field(1, ge=1)  # trained at the same time
    waiting_jobs: int = Field(100, ge=1)  # of one project, not yet finished
    standard_idle_s: int = Field(15 * DAY_S, ge=1)  # a tuned model's deployment that nobody calls for so long is deleted
    developer_lives_s: int = Field(DAY_S, ge=1)  # a deployment of the developer tier is deleted after so long
    database_wait_s: int = Field(30, ge=1)  # how long a request waits for a locked database; then 503
    spare_bytes: int = Field(64 * MEBI, ge=0)  # of the disk: uploads never take the last ones, so that everything else goes on
    running_evals: int = Field(2, ge=1)  # runs of evaluations at the same time
    waiting_evals: int = Field(100, ge=1)  # runs of one project, not yet ended
    eval_items: int = Field(50_000, ge=1)  # of one run
    python_grader_s: int = Field(10, ge=0)  # of one grading; 0: Python graders are refused


class Settings(Wire):
    """`data_dir` holds everything: database, blobs, training runs. `database_url` puts the tables elsewhere (PostgreSQL)."""

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)  # 0: any free one
    database_url: str | None = None
    admin_key: str | None = None  # preset instead of a printed one
    models: dict[str, Path] = Field(default_factory=dict)  # folders offered as models, beside the catalogue's
    config: Path | None = None  # folder with the operator's own models.toml, regions.toml, prices.toml, projects.toml
    catalogue: Path | None = None  # a further model list
    organization: str = Field("local", pattern=r"^[a-z0-9-]{1,32}$")
    import_from: frozenset[str] = frozenset()  # hosts from which clients may have files fetched
    track_to: frozenset[str] = frozenset()  # MLflow servers that jobs may name, beside the environment's
    log_format: LogFormat = "json"
    engine: EngineName = "feinschliff"  # what answers; "auto", as `serve` has it: vLLM where it is installed and there is a CUDA device
    vllm_python: Path | None = None  # an interpreter that has vLLM, where this one has not
    vllm_options: tuple[str, ...] = ()  # further ones of `vllm serve`
    limits: Limits = Limits()

    @property
    def url(self) -> str:
        """SQLAlchemy's address of the database."""
        if self.database_url is None:
            return f"sqlite:///{self.data_dir / 'feinschliff.sqlite'}"
        return self.database_url.replace("postgresql://", "postgresql+psycopg://", 1)
