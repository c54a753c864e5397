"""What a token was narrowed to: actions and models, as an OAuth scope. It only ever takes away.

    scope = token *(SP token)      token = an action (`model:chat`) or `model=ID`

No action named = every action of the subject; no model named = every model. Unknown words are refused, not dropped.
"""

from __future__ import annotations

from dataclasses import dataclass

from sealward.errors import Reason, Refused
from sealward.formats.fault import FormatError
from sealward.formats.ids import is_id
from sealward.identity.actions import MODEL_ACTIONS, OWN_ACTIONS


@dataclass(frozen=True, slots=True)
class Scope:
    """None = not narrowed in this respect."""

    actions: frozenset[str] | None = None
    models: frozenset[str] | None = None

    @classmethod
    def parse(cls, text: str) -> Scope:
        """FormatError("scope") for a word that is neither a known action nor `model=ID`, one that comes twice, or none."""
        words = text.split(" ")
        models = {word.removeprefix(MODEL) for word in words if word.startswith(MODEL)}
        actions = {word for word in words if not word.startswith(MODEL)}
        if len(models) + len(actions) != len(words) or not actions <= ACTIONS or not all(map(is_id, models)):
            raise FormatError("scope", "unknown or doubled words")
        return cls(frozenset(actions) or None, frozenset(models) or None)

    def check(self, action: str, model: str | None) -> None:
        """Refused: action_not_granted, model_not_granted (also for a model that is not there: it is in no scope)."""
        if self.actions is not None and action not in self.actions:
            raise Refused(Reason.ACTION_NOT_GRANTED, "scope")
        if self.models is not None and action in MODEL_ACTIONS and model not in self.models:
            raise Refused(Reason.MODEL_NOT_GRANTED, "scope")

    def within(self, wider: Scope) -> bool:
        """Whether nothing is in this one that is not in `wider`."""
        pairs = ((self.actions, wider.actions), (self.models, wider.models))
        return all(outer is None or (inner is not None and inner <= outer) for inner, outer in pairs)

    def __str__(self) -> str:
        """The one spelling: actions, then models, each in order; empty where nothing is narrowed."""
        return " ".join([*sorted(self.actions or ()), *(MODEL + model for model in sorted(self.models or ()))])


MODEL = "model="
ACTIONS = frozenset({*MODEL_ACTIONS, *OWN_ACTIONS})
EVERYTHING = Scope()
