"""Files are written whole or not at all, under whatever name."""

import os
import resource
import stat
import sys
import threading
from pathlib import Path

import pytest

import kvsim.files.writing
from kvsim.errors import FileError
from kvsim.files.writing import check_writable, is_special, write_beside, write_with

OLD, NEW = b"old" * 1000, b"new" * 3000


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target"
    path.write_bytes(OLD)
    return path


def test_a_link_at_the_temporary_name_is_not_followed(target, tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    monkeypatch.setattr(os, "urandom", bytes)  # now the name can be guessed
    for name in (f".target.{os.getpid()}", f".kvsim-{'00' * 8}"):
        (tmp_path / name).symlink_to(victim)
    with pytest.raises(FileError, match="File exists"):
        write_beside(target, NEW)
    assert (victim.read_bytes(), target.read_bytes()) == (b"precious", OLD)
    assert len(os.listdir(tmp_path)) == 4  # somebody else's links are not removed
    monkeypatch.undo()
    write_beside(target, NEW)
    assert (victim.read_bytes(), target.read_bytes()) == (b"precious", NEW)


def test_two_writers_never_share_a_name(target, tmp_path):
    def other(file):
        write_beside(target, b"other")
        file.write(NEW)

    write_with(target, other)
    assert target.read_bytes() == NEW
    assert os.listdir(tmp_path) == ["target"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755, 0o666])
def test_the_mode_is_kept_and_at_no_time_wider(mode, target, tmp_path):
    target.chmod(mode)
    seen = []

    def write(file):
        seen.append(stat.S_IMODE(os.fstat(file.fileno()).st_mode))
        file.write(NEW)

    write_with(target, write)
    assert (mode_of(target), seen) == (mode, [0o600])
    assert target.read_bytes() == NEW


def test_a_new_file_follows_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_beside(tmp_path / "new", NEW)
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "new") == 0o640


def test_of_a_link_the_file_behind_it_is_replaced(target, tmp_path):
    (tmp_path / "folder").mkdir()
    link, chain, ahead = tmp_path / "link", tmp_path / "folder" / "chain", tmp_path / "ahead"
    link.symlink_to("target")
    chain.symlink_to("../link")
    ahead.symlink_to(tmp_path / "folder" / "later")  # there is no such file yet
    target.chmod(0o604)
    write_beside(chain, NEW)
    write_beside(ahead, NEW)
    assert all(path.is_symlink() and path.read_bytes() == NEW for path in (link, chain, ahead))
    assert mode_of(target) == 0o604
    assert sorted(os.listdir(tmp_path / "folder")) == ["chain", "later"]


def test_flushed_before_it_is_renamed_and_the_folder_after(target, monkeypatch):
    calls = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda n: (calls.append(os.fstat(n).st_size if is_file(n) else "folder"), sync(n)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("rename"), replace(a, b)))
    write_beside(target, NEW)
    assert calls == [len(NEW), "rename", "folder"]


def is_file(number: int) -> bool:
    return stat.S_ISREG(os.fstat(number).st_mode)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("step", ["open", "write", "fsync", "fchmod", "replace"])
def test_whatever_fails_the_target_is_whole_and_nothing_is_left(step, error, target, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise error

    def write(file):
        file.write(NEW)
        file.flush()
        if step == "write":
            raise error

    if step == "open":  # the file is there, and its descriptor is lost
        really = os.open
        monkeypatch.setattr(os, "open", lambda *given: (os.close(really(*given)), fail()))
    elif step != "write":
        monkeypatch.setattr(os, step, fail)
    with pytest.raises(FileError if isinstance(error, OSError) else type(error)):
        write_with(target, write)
    assert target.read_bytes() == OLD
    assert os.listdir(tmp_path) == ["target"]


def interrupt_at(number):
    """A trace function that raises KeyboardInterrupt once, at the line of writing.py that runs as that `number`."""
    left = [number]

    def trace(frame, event, _):
        if frame.f_code.co_filename != kvsim.files.writing.__file__:
            return None
        left[0] -= event == "line"
        if left[0] == 0:
            left[0] = -1
            raise KeyboardInterrupt
        return trace

    return trace


def test_ctrl_c_at_every_line(target, tmp_path):
    """The file is the old one or the new one, and nothing else is left."""
    kept, interrupted = [], True
    while interrupted:
        target.write_bytes(OLD)
        trace = interrupt_at(len(kept) + 1)
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            write_beside(target, NEW)
        except KeyboardInterrupt:
            kept.append(target.read_bytes())
        else:
            interrupted = False
        finally:
            sys.settrace(before)
        assert os.listdir(tmp_path) == ["target"]
    assert len(kept) > 30
    renamed = kept.index(NEW)
    assert kept == [OLD] * renamed + [NEW] * (len(kept) - renamed)


def test_a_folder_that_cannot_be_flushed_is_no_failure(target, monkeypatch):
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda n: sync(n) if is_file(n) else sync(10**6))
    write_beside(target, NEW)
    assert target.read_bytes() == NEW


def test_a_full_disk(target, tmp_path):
    with pytest.raises(FileError, match=r"^cannot write /dev/full: No space left on device$"):
        write_beside(Path("/dev/full"), NEW)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
    try:
        with pytest.raises(FileError, match=r"File too large$"):
            write_beside(target, NEW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert target.read_bytes() == OLD
    assert os.listdir(tmp_path) == ["target"]


def names_that_cannot_be(folder: Path) -> dict[str, Path]:
    (folder / "loop").symlink_to("loop")
    (folder / "file").touch()
    return {
        "File name too long": folder / ("x" * 256),
        "too long": folder / ("long/" * 2000),
        "Too many levels of symbolic links": folder / "loop",
        "embedded null byte": folder / "a\0b",
        "surrogates not allowed": folder / "a\ud800b",
        "there is no folder": folder / "a\nb" / "c",
        "Not a directory": folder / "file" / "x",
        "Is a directory": folder,
    }


@pytest.mark.parametrize("use", [lambda path: write_beside(path, NEW), check_writable])
def test_names_that_cannot_be_written(use, tmp_path):
    for reason, path in names_that_cannot_be(tmp_path).items():
        with pytest.raises(FileError, match=reason) as caught:
            use(path)
        assert len(str(caught.value).splitlines()) == 1
        assert len(str(caught.value)) < 500
    assert sorted(os.listdir(tmp_path)) == ["file", "loop"]


def test_a_file_that_is_read_only(target, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: (Path(path), mode) != (target, os.W_OK))  # as if not root
    for use in (lambda path: write_beside(path, NEW), check_writable):
        with pytest.raises(FileError, match="Permission denied"):
            use(target)
        with pytest.raises(FileError, match="cannot write /proc/version: "):
            use(Path("/proc/version"))  # its folder takes no files, not even of root
    assert target.read_bytes() == OLD


def test_the_longest_name_that_a_file_can_have(tmp_path):
    path = tmp_path / ("x" * 255)
    check_writable(path)
    write_beside(path, NEW)
    assert path.read_bytes() == NEW


def test_trying_a_path_leaves_nothing_and_changes_nothing(target, tmp_path):
    before = target.stat()
    check_writable(target)
    check_writable(tmp_path / "new")
    check_writable(Path("/dev/null"))
    check_writable(Path("/dev/stdout"))
    after = target.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert os.listdir(tmp_path) == ["target"]


def test_streams_are_written_where_they_are(target):
    """As by `command --csv /dev/stdout >> file`."""
    number = os.open(target, os.O_WRONLY | os.O_APPEND)
    try:
        for path in (f"/dev/fd/{number}", f"/proc/self/fd/{number}"):
            assert is_special(Path(path))
            write_beside(Path(path), b"more")
    finally:
        os.close(number)
    assert target.read_bytes() == OLD + b"moremore"
    with pytest.raises(FileError, match="Bad file descriptor"):
        write_beside(Path(f"/dev/fd/{number}"), b"more")


def test_a_pipe_and_a_device(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    check_writable(tmp_path / "pipe")
    write_beside(tmp_path / "pipe", b"drawn")
    assert os.read(reader, 99) == b"drawn"
    os.close(reader)
    write_beside(Path("/dev/null"), b"drawn")
    assert [is_special(path) for path in (tmp_path / "pipe", Path("/dev/null"), tmp_path / "x")] == [True, True, False]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_two_threads_on_one_path(target, tmp_path):
    texts = {OLD, b"a" * 100_000, b"b" * 50_000}
    threads = [
        threading.Thread(target=lambda text=text: [write_beside(target, text) for _ in range(20)]) for text in texts
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert target.read_bytes() in texts
    assert os.listdir(tmp_path) == ["target"]
