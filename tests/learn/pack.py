"""Writes the compressed solutions of the wheel from tests/learn/solutions: `python -m tests.learn.pack`."""

from kvsim.learn.exercise import list_exercises
from kvsim.learn.solutions import FILE, pack
from tests.learn.here import files_of


def reference_of(exercise):
    """The file `reference` among the solutions of an exercise."""
    return next(file for file in files_of("solutions", exercise.id) if file.stem == "reference")


def main():
    for exercise in list_exercises():
        data = pack(reference_of(exercise).read_text(encoding="utf-8"))
        place = exercise.folder / FILE
        if not place.is_file() or place.read_bytes() != data:
            place.write_bytes(data)


if __name__ == "__main__":
    main()
