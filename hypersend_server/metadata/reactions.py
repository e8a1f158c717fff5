"""Reactions of a message: who set which, within what one message takes. The same for every backend."""

from __future__ import annotations

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.chats import MAX_REACTION_KINDS, MAX_REACTIONS_EACH, Reactions


def with_reaction(reactions: tuple[Reactions, ...], user_id: str, emoji: str) -> tuple[Reactions, ...]:
    """Raises: `reaction_limit`."""
    own = [r.emoji for r in reactions if user_id in r.user_ids]
    if emoji in own:
        return reactions
    if len(own) >= MAX_REACTIONS_EACH:
        raise HyperSendError("reaction_limit", f"A person may set {MAX_REACTIONS_EACH} reactions on a message.")
    if any(r.emoji == emoji for r in reactions):
        return tuple(Reactions(r.emoji, (*r.user_ids, user_id)) if r.emoji == emoji else r for r in reactions)
    if len(reactions) >= MAX_REACTION_KINDS:
        raise HyperSendError("reaction_limit", f"A message takes {MAX_REACTION_KINDS} different reactions.")
    return (*reactions, Reactions(emoji, (user_id,)))


def without_reaction(reactions: tuple[Reactions, ...], user_id: str, emoji: str) -> tuple[Reactions, ...]:
    kept = (
        Reactions(r.emoji, tuple(u for u in r.user_ids if u != user_id)) if r.emoji == emoji else r for r in reactions
    )
    return tuple(r for r in kept if r.user_ids)
