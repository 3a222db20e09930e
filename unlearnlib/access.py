"""What a method may see, as an object: the access contract of every unlearning method, enforced at run time."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from torch import Tensor


class AccessError(RuntimeError):
    """A method touched something that its row of the access table does not grant."""


@dataclass(frozen=True)
class Row:
    """One row of the access table: True where the method may look, plus what it changes (a short phrase)."""

    forget_images: bool = False
    forget_labels: bool = False
    forget_classes: bool = False
    retain_images: bool = False
    retain_labels: bool = False
    held_out: bool = False
    changes: str = "the weights"

    def granted(self) -> list[str]:
        return [f.name for f in fields(self) if f.name != "changes" and getattr(self, f.name)]


EVERYTHING = Row(True, True, True, True, True, True, "anything")


class Access:
    """The data that a method is given: whatever its row does not grant raises :class:`AccessError` when touched.

    Build it from your own tensors, with any of the parts left out::

        Access(forget=(images, labels), retain=(images, labels), held_out=(images, labels), forget_classes=[3])

    Parameters
    ----------
    forget, retain, held_out: pairs (images, labels) or None. Images ``(n, ...)`` are whatever the model takes, labels
        ``(n,)`` int64 or None. Images and labels are passed on as they are: nothing is copied, moved or normalised.
    forget_classes: the class ids to forget; where they are left out, the distinct forget labels stand in for them.

    Raises
    ------
    AccessError: when a part that is not granted, or was never given, is read.
    ValueError: when images and labels of one part differ in length.
    """

    def __init__(self, forget=None, retain=None, held_out=None, forget_classes=(), *,
                 row: Row = EVERYTHING, method: str = "your code"):
        self._parts: dict[str, Tensor | None] = {}
        for name, pair in (("forget", forget), ("retain", retain), ("held_out", held_out)):
            images, labels = pair if pair is not None else (None, None)
            if images is not None and labels is not None and len(images) != len(labels):
                raise ValueError(f"{name} has {len(images)} images but {len(labels)} labels; "
                                 "both must have the same length: pass matching tensors.")
            self._parts[f"{name}_images"], self._parts[f"{name}_labels"] = images, labels
        self._classes = [int(c) for c in forget_classes]
        self._row, self._method = row, method

    def restricted(self, method: str, row: Row) -> Access:
        """The same data behind the row of ``method``; a view never grants more than the one it was made from."""
        both = {name: getattr(row, name) and getattr(self._row, name) for name in EVERYTHING.granted()}
        view = Access(forget_classes=self._classes, row=replace(row, **both), method=method)
        view._parts = self._parts
        return view

    def _get(self, thing: str, permission: str) -> Tensor:
        if not getattr(self._row, permission):
            granted = ", ".join(self._row.granted()) or "nothing"
            raise AccessError(f"{self._method} touched {thing}, but its access row grants only: {granted}.")
        value = self._parts[thing]
        if value is None:
            raise AccessError(f"{self._method} needs {thing}, but none were given: pass them to Access(...).")
        return value

    @property
    def forget_images(self) -> Tensor:
        return self._get("forget_images", "forget_images")

    @property
    def forget_labels(self) -> Tensor:
        return self._get("forget_labels", "forget_labels")

    @property
    def retain_images(self) -> Tensor:
        return self._get("retain_images", "retain_images")

    @property
    def retain_labels(self) -> Tensor:
        return self._get("retain_labels", "retain_labels")

    @property
    def held_out(self) -> tuple[Tensor, Tensor]:
        return self._get("held_out_images", "held_out"), self._get("held_out_labels", "held_out")

    @property
    def forget_classes(self) -> list[int]:
        if not self._row.forget_classes:
            granted = ", ".join(self._row.granted()) or "nothing"
            raise AccessError(f"{self._method} touched forget_classes, but its access row grants only: {granted}.")
        if self._classes:
            return list(self._classes)
        labels = self._parts["forget_labels"]
        if labels is None:
            raise AccessError(f"{self._method} needs forget_classes, but none were given: pass them to Access(...).")
        return (labels.any(0).nonzero().flatten() if labels.ndim == 2 else labels.unique()).tolist()
