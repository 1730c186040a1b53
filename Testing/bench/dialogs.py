"""Modal dialogs: recorded and answered, never shown, as nobody sits at the bench."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

QUESTION, FILE, INPUT, WINDOW = "question", "file", "input", "window"
ERROR, WARNING, INFORMATION = "error", "warning", "information"


class UnexpectedDialogError(AssertionError):
    """A dialog that wants a choice was opened, and the test had prepared no answer."""


@dataclass(frozen=True)
class Dialog:
    """One dialog that a person would have seen.

    Attributes:
        kind: 'information', 'warning' and 'error' only want to be read; 'question', 'file', 'input' and 'window' want
            an answer.
        title: title of the window.
        text: what it says.
        buttons: names of the buttons, such as 'Ok' and 'Cancel'.
        answer: what was answered.
        detail: text that is shown on demand.
    """

    kind: str
    title: str
    text: str
    buttons: tuple[str, ...] = ()
    answer: Any = None
    detail: str = ""


class Dialogs:
    """Answers dialogs in the place of a person, and remembers them.

    A message with one button is answered by it. Everything else needs an answer from the test:
    `answer("Cancel")` for a question, a path for a file dialog ('' cancels), a text for an input, and for any other
    window a function that is called with it.
    """

    def __init__(self) -> None:
        self._answers: deque[Any] = deque()
        self._shown: list[Dialog] = []
        self._unexpected: list[str] = []
        self.texts: list[str] = []

    def answer(self, *answers: Any) -> None:
        """The answers to the next dialogs that want one, in their order."""
        self._answers.extend(answers)

    def take(self) -> list[Dialog]:
        """The dialogs since the last call."""
        shown, self._shown = self._shown, []
        return shown

    def reset(self) -> None:
        """Forgets everything."""
        self.__init__()

    def problems(self) -> list[str]:
        """What a test has not dealt with: unexpected dialogs, errors it did not take, answers nobody wanted."""
        unread = [f"an error that the test did not take: {one.text}" for one in self._shown if one.kind == ERROR]
        unused = [f"an answer to no dialog: {answer!r}" for answer in self._answers]
        return self._unexpected + unread + unused

    def meet(self, kind: str, title: str, text: str, buttons: tuple[str, ...] = (), detail: str = "") -> Any:
        """Called in the place of showing a dialog.

        Raises:
            UnexpectedDialogError: it wants an answer, and none is prepared.
        """
        self.texts.append(text)
        choice = len(buttons) != 1 or kind in (QUESTION, FILE, INPUT, WINDOW)
        answer = self._next(f"{kind} dialog {title!r}: {text!r} {list(buttons)}") if choice else buttons[0]
        if buttons and answer not in buttons:
            raise self._fail(f"the dialog {text!r} has no button {answer!r}, only {', '.join(buttons)}")
        self._shown.append(Dialog(kind, title, text, buttons, answer, detail))
        return answer

    def _next(self, description: str) -> Any:
        if not self._answers:
            raise self._fail(f"{description} needs dialogs.answer(...)")
        return self._answers.popleft()

    def _fail(self, message: str) -> UnexpectedDialogError:
        self._unexpected.append(message)
        return UnexpectedDialogError(message)


dialogs = Dialogs()
