"""Files that are read: whole and unchanged, or refused."""

import os
import tracemalloc

import numpy as np
import pytest

from kvsim.errors import FileError
from kvsim.files.reading import open_file

CHANGED = "changed while it was read: try again when nothing writes to it"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "some.bin"
    path.write_bytes(bytes(range(200)))
    return path


def later(path):
    """Move the file's time of change on, as any write does that comes a clock tick later."""
    found = path.stat()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 1))


def test_bytes_are_read_from_anywhere(path):
    array = np.zeros((2, 3), "<u2")
    with open_file(path) as file:
        assert (file.size, file.read(7, 3)) == (200, bytes((7, 8, 9)))
        file.read_into(2, array)
        file.read_into(200, np.zeros((0, 3)))
        assert file.read(200, 0) == b""
    assert array.tobytes() == bytes(range(2, 14))


def test_more_than_one_system_call(path, monkeypatch):
    monkeypatch.setattr("kvsim.files.reading._PIECE", 7)
    with open_file(path) as file:
        assert file.read(0, 200) == bytes(range(200))


def test_bytes_outside_the_file_are_not_asked_for(path):
    with open_file(path) as file:
        for start, count in ((-1, 3), (0, 201), (201, 0), (190, 2**62), (5, -1)):
            with pytest.raises(ValueError, match="of 200"):
                file.read(start, count)


@pytest.mark.parametrize(
    "write", [lambda p: p.write_bytes(bytes(200)), lambda p: os.truncate(p, 100), lambda p: p.open("ab").write(b"x")]
)
def test_a_file_that_is_written_to_while_it_is_read(path, write):
    with pytest.raises(FileError, match=CHANGED), open_file(path) as file:  # noqa: PT012
        file.read(0, 10)
        write(path)
        later(path)


def test_a_file_that_shrinks_under_the_reader(path):
    with pytest.raises(FileError, match=CHANGED), open_file(path) as file:  # noqa: PT012
        os.truncate(path, 100)
        file.read(0, 150)
        pytest.fail("a short read was accepted")


def test_a_file_that_changed_since_it_was_last_open(path):
    with open_file(path) as file:
        stamp = file.stamp
    with open_file(path, stamp):
        pass
    later(path)
    with pytest.raises(FileError, match=CHANGED), open_file(path, stamp):
        pytest.fail("it was opened")
    with open_file(path) as file:
        stamp = file.stamp
    other = path.with_name("other")
    other.write_bytes(bytes(200))
    os.utime(other, ns=(stamp.mtime_ns, stamp.mtime_ns))
    other.replace(path)
    with pytest.raises(FileError, match=CHANGED), open_file(path, stamp):
        pytest.fail("it was opened")


def test_what_is_not_a_regular_file(tmp_path):
    os.symlink("loop", tmp_path / "loop")
    for name, message in (("none", "no such file"), (".", "no such file"), ("a/b", "no such file"), ("/dev/zero", "no"),
                          ("x" * 300, "cannot read"), ("a\0b", "cannot read"), ("loop", "cannot read")):  # fmt: skip
        with pytest.raises(FileError, match=message) as caught, open_file(tmp_path / name):
            pytest.fail("it was opened")
        assert len(str(caught.value).splitlines()) == 1
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(FileError, match="no such file"), open_file(tmp_path / "pipe"):
            pytest.fail("it was opened")


@pytest.mark.parametrize("name", ["a\nb", "a\0b", "a\x1b[31m"])
def test_a_message_is_one_line_whatever_the_name(name, tmp_path):
    with pytest.raises(FileError) as caught, open_file(tmp_path / name):
        pass
    assert str(caught.value).isprintable()


def test_a_changed_file_of_two_lines_is_named_on_one(path):
    with pytest.raises(FileError, match=CHANGED) as caught, open_file(path.rename(path.parent / "a\nb")) as file:  # noqa: PT012
        file.read(0, 10)
        later(file.path)
    assert str(caught.value).isprintable()


def test_bytes_are_in_memory_once(tmp_path):
    (tmp_path / "big").write_bytes(bytes(2**22))
    with open_file(tmp_path / "big") as file:
        tracemalloc.start()
        file.read(0, 2**22)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 1.1 * 2**22
