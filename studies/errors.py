"""What can be wrong with a study."""


class StudyError(Exception):
    """A study cannot be opened or continued; the message says why."""


class BrokenStudyError(StudyError):
    """What is stored of a study cannot be read; the message says what is wrong."""
