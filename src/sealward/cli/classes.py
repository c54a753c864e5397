"""Every verb and its class: *control* changes something and leaves an event, *read* shows content and leaves one, *offline* none.

A control verb names what it leaves: routes of the admin API by their names, or types of events.
"""

from __future__ import annotations

from collections.abc import Mapping

CONTROL: Mapping[str, tuple[str, ...]] = {
    "init": ("config.changed",),  # the first change, carried out by the first `up`
    "up": ("process.started",),
    "demo": ("process.started",),
    "apikey create": ("apikey.create",),
    "apikey rotate": ("apikey.rotate",),
    "apikey suspend": ("apikey.suspend",),
    "apikey confirm": ("apikey.confirm",),
    "apikey revoke": ("apikey.revoke",),
    "user create": ("user.create",),
    "user enable": ("user.enable",),
    "user disable": ("user.disable",),
    "service create": ("service.create",),
    "service enable": ("service.enable",),
    "service disable": ("service.disable",),
    "role assign": ("role.assign",),
    "role remove": ("role.remove",),
    "grant add": ("grant.add",),
    "grant remove": ("grant.remove",),
    "limit set": ("limit.set",),
    "limit unset": ("limit.unset",),
    "capture set": ("capture.set",),
    "capture unset": ("capture.unset",),
    "model approve": ("model.approve",),
    "model deploy": ("model.deploy",),
    "model retire": ("model.retire",),
    "token mint": ("token.minted",),
    "token exchange": ("token.exchanged",),
    "token revoke": ("token.revoke",),
    "journal append": ("journal.recovered",),  # and what it is given
    "journal erase": ("journal.erased",),
    "journal hold": ("journal.held",),
    "journal release": ("journal.released",),
    "journal archive": ("journal.archived",),
    "recover journal": ("journal.successor", "journal.archived", "recovery.performed"),
    "witness drop": ("recovery.performed", "witness.dropped"),
    "rollout check": ("rollout.task",),
}
READ = frozenset({
    "apikey list", "user list", "service list", "role list", "grant list", "limit list", "capture list", "model list",
    "model show",
    "journal body", "journal export", "journal query", "journal receipt", "journal tail",
})  # fmt: skip
OFFLINE = frozenset({
    "status", "doctor", "config check", "config schema", "completion", "run", "journal init", "journal policy", "journal prove",
    "journal verify", "witness add-log", "witness init", "witness serve", "witness show", "rollout status",
})  # fmt: skip
