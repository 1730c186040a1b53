"""Sends every modal dialog of Qt to `bench.dialogs`."""

from __future__ import annotations

from typing import Any

from PySide6 import QtCore, QtWidgets
from PySide6.QtWidgets import QDialog, QFileDialog, QInputDialog, QMenu, QMessageBox

from bench.dialogs import ERROR, FILE, INFORMATION, INPUT, QUESTION, WARNING, WINDOW, dialogs

KINDS = {
    QMessageBox.Icon.Critical: ERROR,
    QMessageBox.Icon.Warning: WARNING,
    QMessageBox.Icon.Question: QUESTION,
}
DETAILS = "Show Details"  # unfolds the detailed text; no answer
STANDARD_BUTTONS = [button for button in QMessageBox.StandardButton if bin(button.value).count("1") == 1]


def install() -> None:
    """Replaces what would wait for a person."""
    for cls, meet in ((QDialog, _meet_window), (QMessageBox, _meet_message)):
        cls.exec = cls.exec_ = meet
    QFileDialog.exec = QFileDialog.exec_ = _meet_window
    QInputDialog.exec = QInputDialog.exec_ = _meet_window
    QMenu.exec = QMenu.exec_ = _meet_menu
    for name, icon in (("information", "Information"), ("warning", "Warning"), ("critical", "Critical")):
        setattr(QMessageBox, name, staticmethod(_message_function(QMessageBox.Icon[icon])))
    QMessageBox.question = staticmethod(
        _message_function(QMessageBox.Icon.Question, QMessageBox.StandardButton.Yes | QMessageBox.StandardButton.No)
    )
    for name in ("getOpenFileName", "getSaveFileName", "getExistingDirectory", "getOpenFileNames"):
        setattr(QFileDialog, name, staticmethod(_file_function(name)))
    for name in ("getText", "getItem", "getInt", "getDouble", "getMultiLineText"):
        setattr(QInputDialog, name, staticmethod(_input_function(name)))


def _meet_message(box: QMessageBox) -> int:
    named = {button.name: button for button in STANDARD_BUTTONS if box.standardButtons & button}
    own = {button.text: button for button in box.buttons() if box.standardButton(button) not in STANDARD_BUTTONS}
    own = {text: button for text, button in own.items() if not text.startswith(DETAILS)}
    names = (*named, *own) or ("Ok",)
    kind = QUESTION if len(names) > 1 else KINDS.get(box.icon, INFORMATION)
    answer = dialogs.meet(kind, box.windowTitle.strip(), box.text, names, box.informativeText or box.detailedText)
    if answer in own:
        own[answer].click()
        return 0
    button = named.get(answer, QMessageBox.StandardButton.Ok)
    box.done(button.value)
    return button


def _message_function(icon: QMessageBox.Icon, default: Any = QMessageBox.StandardButton.Ok) -> Any:
    def show(parent: Any, title: str, text: str, buttons: Any = default, *rest: Any) -> int:
        names = tuple(button.name for button in STANDARD_BUTTONS if buttons & button)
        kind = QUESTION if len(names) > 1 else KINDS.get(icon, INFORMATION)
        return QMessageBox.StandardButton[dialogs.meet(kind, title, text, names)]

    return show


def _meet_window(dialog: QDialog) -> int:
    labels = [label.text for label in dialog.findChildren(QtWidgets.QLabel)]
    act = dialogs.meet(WINDOW, dialog.windowTitle, "\n".join(labels) or dialog.metaObject().className())
    dialog.show()
    QtCore.QCoreApplication.processEvents()
    act(dialog)
    if dialog.visible:
        dialog.reject()
    return dialog.result()


def _meet_menu(menu: QMenu, *arguments: Any) -> Any:
    actions = {action.text: action for action in menu.actions() if action.text}
    chosen = dialogs.meet(WINDOW, menu.title, ", ".join(actions))
    actions[chosen].trigger()
    return actions[chosen]


def _file_function(name: str) -> Any:
    def ask(parent: Any = None, caption: str = "", *rest: Any) -> Any:
        answer = dialogs.meet(FILE, caption, name)
        return [str(path) for path in answer] if name.endswith("Names") else str(answer)

    return ask


def _input_function(name: str) -> Any:
    def ask(parent: Any = None, title: str = "", label: str = "", *rest: Any) -> Any:
        return dialogs.meet(INPUT, title, label or name)

    return ask
