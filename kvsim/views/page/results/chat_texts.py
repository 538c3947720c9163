"""The texts of the page of a conversation."""

from kvsim.i18n.language import Say


def chat_texts(say: Say) -> dict[str, str]:
    """Each text that the modules of this page show, by its key."""
    return {**_stage(say), **_tables(say)}


def _stage(say: Say) -> dict[str, str]:
    return {
        "heading": say("A conversation, turn by turn: what the cache has seen, and what is computed"),
        "title": say("A conversation and its cache: {text}"),
        "sentence": say(
            "Line {step} of {last}, {name}: {cached} tokens are reused and {new} are fed. Without reuse {before} score"
            " cells, with it {after}."
        ),
        "sentence_dropped": say("The edit drops {dropped} tokens from the cache and computes the rest again."),
        "tab_turns": say("Turns"),
        "tab_memory": say("Memory"),
        "tab_cost": say("Cost"),
        "turn": say("turn"),
        "fresh": say("Without reuse"),
        "reused": say("With reuse"),
        "size": say("{tokens} tokens fed"),
        "note_fresh": say("A fresh cache is fed the whole conversation at every turn."),
        "note_reused": say("The cache has seen {cached} tokens; the others are fed."),
        "tokens_of": say("{run}: tokens of the conversation"),
        "dropped": say("Dropped from the cache: {n} tokens of the text before the edit"),
        "state_prompt": say("shared prefix, reused"),
        "state_key": say("fed, computed"),
        "state_value": say("reply, computed token by token"),
        "state_masked": say("dropped from the cache"),
        "state_zero": say("chosen, not fed yet"),
        "many": say("More than {n} tokens: drawn as bars only."),
    }


def _tables(say: Say) -> dict[str, str]:
    return {
        "step": say("turn"),
        "all_turns": say("All turns"),
        "reply": say("reply"),
        "text": say("text"),
        "tokens_reused": say("reused"),
        "tokens_fed": say("fed"),
        "score_cells": say("score cells"),
        "projected_rows": say("projected rows"),
        "macs": say("MACs"),
        "kv_bytes": say("cache, B"),
        "diff": say("diff"),
        "saved": say("saved"),
        "total": say("total"),
        "memory_title": say("Bytes of the cache after each turn"),
        "held": say("held by rows in use"),
        "allocated": say("allocated"),
        "cells_title": say("Score cells of each turn"),
        "macs_title": say("MACs of each turn"),
    }
