"""OUT, the folder of one study: what lies where in it, whose it is, and who works in it."""
import fcntl
import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from feinschliff.app.study_answers import ArmFolder
from feinschliff.app.study_parts import RECORD
from feinschliff.core.errors import FolderInUse
from feinschliff.core.study import Study, ingredients
from feinschliff.data.files import sha256_of, write_text
from feinschliff.retrieval.documents import matching_files

# What an answer depends on. The rest of a study may change: it is then judged anew, without asking again.
ANSWERING = ("split", "prompt", "few_shot", "retrieval", "model", "training")
TRAINING = "[training]"
HOSTED = "[hosted."
# What adds runs beside the first one and leaves that as it is: more of them do not set it aside.
MORE_RUNS = frozenset({"seeds", "learning_curve"})
WORDS_ABOUT_DATA = frozenset({"labelled_by", "curated", "stays_in"})
MARK = "inputs.sha256"
OURS = re.compile(rf"lock|logs|hosted|\.{re.escape(MARK)}\.\d+\.part")  # may lie in a folder that was stopped before its mark


@dataclass(frozen=True, slots=True)
class Layout:
    """What lies where under OUT."""

    out: Path

    @property
    def data(self) -> Path:
        return self.out / "data"

    @property
    def runs(self) -> Path:
        return self.out / "runs"

    @property
    def hosted(self) -> Path:
        """What was asked of providers: answers that were paid for, and whose they are."""
        return self.out / "hosted"

    @property
    def run(self) -> Path:
        """The training run that the tuned arms answer with."""
        return self.runs / "tuned"

    def arm(self, name: str) -> ArmFolder:
        return ArmFolder(self.out / "arms" / name)


@contextmanager
def claimed(layout: Layout, inputs: Mapping[str, str]) -> Iterator[None]:
    """OUT for these inputs and this process alone, for as long as the context is open.

    Raises FolderInUse where it is something else, belongs to a study with other inputs, or another process works in it.
    Inputs may still change until the data has been frozen: a study file that was refused is mended and run again.
    With another [training] the untuned answers stay, and the former run is set aside.
    """
    out, mark = layout.out, layout.out / MARK
    if out.exists() and not out.is_dir():
        raise FolderInUse(f"{out} is a file, not a folder.", hint="Choose another --out.")
    if out.is_dir() and not mark.is_file() and not all(OURS.fullmatch(p.name) for p in out.iterdir()):
        raise FolderInUse(f"{out} exists and is not the folder of a study.", hint="Choose another --out, or remove it.")
    with _locked(out):
        if mark.is_file() and (layout.data / RECORD).is_file():
            before = _read(mark)
            # Hosted models come and go; one that comes again is to be the same.
            inputs = {name: digest for name, digest in before.items() if name.startswith(HOSTED)} | dict(inputs)
            _compare(out, before, inputs)
            if before[TRAINING] != inputs[TRAINING]:
                _set_aside(layout, before[TRAINING])
        write_text(mark, "".join(f"{digest}  {name}\n" for name, digest in inputs.items()))
        _take_up(layout, inputs[TRAINING])
        yield


def inputs_of(study: Study, base: Path, base_sha256: str) -> dict[str, str]:
    """Name → sha256 of everything that an answer depends on: tables of the study, the files it names, the base model."""
    spec = {f"[{table}]": study.model_dump_json(include={table}, exclude={"training": set(MORE_RUNS)}) for table in ANSWERING}
    spec["[data]"] = study.data.model_dump_json(exclude=set(WORDS_ABOUT_DATA))
    spec |= {f"{HOSTED}{name}]": hosted.model_dump_json() for name, hosted in study.hosted.items()}
    files = [*study.data.files, *study.split.test_files]
    if study.prompt is not None and study.prompt.file is not None:
        files.append(study.prompt.file)
    if study.retrieval is not None:
        files += sorted(str(f) for pattern in study.retrieval.documents for f in matching_files(pattern, base))
    found = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in spec.items()}
    return found | {name: sha256_of(base / name) for name in files} | {"the base model": base_sha256}


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = (out / "lock").open("w", encoding="utf-8")
    except OSError as error:
        raise FolderInUse(f"{out} cannot be written: {error.strerror or error}.", hint="Choose another --out.") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderInUse(f"Another process is running the study in {out}.", hint="Wait for it, or stop it.") from None
        yield


def _read(mark: Path) -> dict[str, str]:
    lines = (line.partition("  ") for line in mark.read_text(encoding="utf-8").splitlines())
    return {name: digest for digest, _, name in lines}


def _compare(out: Path, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    changed = [
        name for name in dict.fromkeys([*now, *before])
        if before.get(name) != now.get(name) and not (name.startswith(HOSTED) and name not in before)
    ]  # fmt: skip
    if changed not in ([], [TRAINING]):
        raise FolderInUse(
            f"{out} holds a study with other inputs; changed: {', '.join(changed)}.",
            hint="Choose another --out to keep both, or remove the folder to start anew.",
        )


def _aside(layout: Layout, training: str) -> Path:
    return layout.runs / f"tuned-{training[:8]}"


def _set_aside(layout: Layout, training: str) -> None:
    """Put the run of former settings and its answers under their digest. After a kill, the rest is moved the next time."""
    aside = _aside(layout, training)
    if layout.run.is_dir():
        layout.run.rename(aside)
    for arm in [folder for folder in layout.out.glob("arms/*") if "tuned" in ingredients(folder.name)]:
        (aside / "arms").mkdir(parents=True, exist_ok=True)
        arm.rename(aside / "arms" / arm.name)


def _take_up(layout: Layout, training: str) -> None:
    """Bring back what was set aside under these settings; the run goes last, because its place says that all is back."""
    aside = _aside(layout, training)
    if layout.run.exists() or not aside.is_dir():
        return
    for arm in aside.glob("arms/*"):
        arm.rename(layout.out / "arms" / arm.name)
    aside.rename(layout.run)
