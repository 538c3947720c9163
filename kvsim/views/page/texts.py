"""The texts of the frame: transport, tabs, help."""

from kvsim.i18n.language import Say


def frame_texts(say: Say) -> dict[str, str]:
    """Each text that static/frame.js and static/transport.js show, by its key."""
    return {
        "tagline": say("KV caching, cell by cell"),
        "made": say("Made by kvsim {version}. Every number on this page was counted or computed in the run."),
        "tabs": say("views"),
        "help": say("Keyboard"),
        "close": say("Close"),
        "link": say(
            "The address keeps step, layer, head and language: copy it to link this frame, such as #step=5&layer=1."
        ),
        "transport": say("steps of the run"),
        "step": say("step"),
        "place": say("step {step} of {last}"),
        "speed": say("speed"),
        "first": say("First step"),
        "back": say("Step back"),
        "play": say("Play"),
        "pause": say("Pause"),
        "next": say("Next step"),
        "last": say("Last step"),
    }


def key_texts(say: Say) -> list[tuple[str, str]]:
    """The keys that every page listens to, and what each does."""
    return [
        ("← →", say("step back and forth (Page Up and Page Down inside a grid)")),
        ("Home End", say("first and last step")),
        ("Space", say("play and pause")),
        ("l", say("Chinese or English")),
        ("?", say("this help")),
    ]
